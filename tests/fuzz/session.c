/* Feeds frames of all kinds to native sessions, many of which violate yamux, and does to their streams what users do;
 * checks every count and limit after each step. Meant for AddressSanitizer and UndefinedBehaviorSanitizer: `make
 * fuzz-session`.
 *
 *     session FRAMES [SEED]
 *
 * The clock is ours and jumps. A constant stands for the tag of a message: with a real one, no damaged message would
 * ever reach the code that is to be tested. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int64_t fake_now = 1000000000;

/* The linker puts it in the place of clock_gettime (--wrap). */
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);

int __wrap_clock_gettime(clockid_t clock, struct timespec *t) {
    (void)clock;
    t->tv_sec = fake_now / 1000000000;
    t->tv_nsec = fake_now % 1000000000;
    return 0;
}

enum { SESSIONS = 4, LOCALS = 64, BIGGEST = 70000 };

static uint64_t state;

static uint64_t next_random(void) {       /* splitmix64, Steele, Lea and Flood 2014 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint32_t below(uint32_t n) { return (uint32_t)(next_random() % n); }

static int fake_seal(uint8_t *out, unsigned long long *size, const uint8_t *in, unsigned long long n, const uint8_t *a,
                     unsigned long long an, const uint8_t *s, const uint8_t *nonce, const uint8_t *key) {
    (void)a, (void)an, (void)s, (void)nonce, (void)key;
    memcpy(out, in, n);
    memset(out + n, 0xa5, TAG_BYTES);
    *size = n + TAG_BYTES;
    return 0;
}

static int fake_open(uint8_t *out, unsigned long long *size, uint8_t *s, const uint8_t *in, unsigned long long n,
                     const uint8_t *a, unsigned long long an, const uint8_t *nonce, const uint8_t *key) {
    static uint8_t tag[TAG_BYTES];
    (void)s, (void)a, (void)an, (void)nonce, (void)key;
    memset(tag, 0xa5, sizeof tag);
    if (memcmp(in + n - TAG_BYTES, tag, TAG_BYTES)) return -1;
    memcpy(out, in, n - TAG_BYTES);
    *size = n - TAG_BYTES;
    return 0;
}

typedef struct {
    uint64_t id;      /* 0: not there */
    int peer;         /* the other end of its connection */
    uint32_t left;    /* payload that the last frame has promised and that was not sent */
    int reads;        /* whether the peer reads what we send */
    int behaves;      /* whether it follows the specification */
} fuzzed_t;

typedef struct {
    uint64_t session;
    uint32_t stream;
    int fd, spliced;
} local_t;

static reactor_t *r;
static fuzzed_t sessions[SESSIONS];
static local_t locals[LOCALS];
static uint64_t frames, made, refused, crowded, reasons[16];
static uint8_t noise_buffer[BIGGEST + 64], payload[BIGGEST];

#define CHECK(condition)                                                                              \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);            \
            abort();                                                                                  \
        }                                                                                             \
    } while (0)

static void keep_local(uint64_t session, uint32_t stream, int fd) {
    local_t *l = &locals[below(LOCALS)];
    if (l->fd >= 0) close(l->fd);
    *l = (local_t){session, stream, fd, 0};
}

static void fresh_session(fuzzed_t *f) {
    uint8_t key[KEY_BYTES] = {1};
    int pair[2], small = 4096;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
    if (!below(4)) setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    int64_t id = session_add(r, pair[0], (int)below(2), key, 0, key, 0, NULL, 0);
    CHECK(id > 0);
    *f = (fuzzed_t){(uint64_t)id, pair[1], 0, below(5) != 0, (int)below(2)};
    made++;
}

static void send_raw(fuzzed_t *f, const uint8_t *data, size_t size) {
    while (size) {
        ssize_t n = send(f->peer, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            reactor_turn(r, 0);           /* it may have paused: then the rest is lost, as on a broken connection */
            if (send(f->peer, data, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) return;
            data++;
            size--;
        } else {
            return;
        }
    }
}

/* Plaintext in one message; sometimes damaged, or cut. */
static void send_message(fuzzed_t *f, const uint8_t *plain, size_t size) {
    size_t total = size + TAG_BYTES;
    noise_buffer[0] = (uint8_t)(total >> 8);
    noise_buffer[1] = (uint8_t)total;
    memcpy(noise_buffer + 2, plain, size);
    memset(noise_buffer + 2 + size, 0xa5, TAG_BYTES);
    uint32_t fate = f->behaves ? 9 : below(2000);
    if (fate == 0) noise_buffer[2 + size + below(TAG_BYTES)] ^= 1;
    else if (fate == 1) noise_buffer[below(2)] ^= (uint8_t)(1 << below(8));
    else if (fate == 2) total = below((uint32_t)total);
    send_raw(f, noise_buffer, total + 2);
}

static const uint32_t odd_streams[] = {0, 1, 2, 3, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
static const uint32_t odd_lengths[] = {
    0, 1, 0xffff, 0x10000, INITIAL_WINDOW, INITIAL_WINDOW + 1, 0x7fffffff, 0xffffffff,
};

/* One that is open, or NULL. */
static stream_t *some_stream(const session_t *s) {
    for (int tries = 0; tries < 8; tries++) {
        stream_t *t = s->table[below(BUCKETS)];
        if (t) return t;
    }
    return NULL;
}

/* A header that follows the specification, or mostly; how much payload belongs to it. */
static uint32_t make_header(const session_t *s, uint8_t *out, int behaves, uint32_t longest) {
    stream_t *t = some_stream(s);
    int type = below(3) ? YAMUX_DATA : YAMUX_WINDOW, flags = 0;
    uint32_t id = t ? t->id : 0, length = below(8) ? below(longest / 20) : below(longest);
    if (!t || !below(12)) {
        id = 2 * below(1000) + (s->initiator ? 2 : 1);
        if (!stream_find((session_t *)s, id)) flags = FLAG_SYN;
        t = NULL;
    }
    if (!below(40)) flags |= 1 << below(4);
    if (!below(60)) type = YAMUX_PING;
    if (type == YAMUX_DATA) {
        int64_t window = t ? t->receive_window : INITIAL_WINDOW;
        window /= 4;                      /* more may be on its way */
        if (t && t->receive_closed) length = 0;
        else if ((int64_t)length > window) length = (uint32_t)window;
    }
    if (behaves) {
        if (type == YAMUX_WINDOW && (length += t ? 0 : 1) && t && t->send_window > 4000000) length = 0;
        put_header(out, type, flags & 15, id, length);
        return type == YAMUX_DATA ? length : 0;
    }
    if (!below(2000)) type = (int)below(6);
    if (!below(2000)) flags = (int)below(256);
    if (!below(2000)) id = odd_streams[below(8)];
    if (!below(2000)) length = odd_lengths[below(8)];
    put_header(out, type, flags, id, length);
    if (!below(2000)) out[below(4)] ^= (uint8_t)(1 << below(8));
    return type == YAMUX_DATA ? length : 0;
}

static void send_frame(fuzzed_t *f) {
    uint8_t plain[BIGGEST];
    size_t size = 0;
    if (f->left) {
        uint32_t n = f->left < 60000 ? f->left : 60000;
        if (below(4)) n = 1 + below(n);
        memcpy(plain, payload, n);
        size = n;
        f->left -= n;
    }
    const session_t *s = session_find(r, f->id);
    int many = !below(50), count = many ? 100 : 1 + (int)below(4);
    while (s && count-- && !f->left && size < 40000) {
        uint32_t length = make_header(s, plain + size, f->behaves, many ? 200 : 66000);
        uint32_t cut = 1 + below(many ? 200 : 20000), n = length < cut ? length : cut;
        size += HEADER_BYTES;
        memcpy(plain + size, payload, n);
        size += n;
        f->left = length - n;
        frames++;
        if (f->left > 4000000) f->left = 0;   /* nobody would wait for it: what follows is its payload */
    }
    send_message(f, plain, size);
}

/* More than a peer may ask for, and perhaps it does not read the answers. */
static void send_pings(fuzzed_t *f) {
    static uint8_t plain[5000 * HEADER_BYTES];
    if (f->left) return;
    for (uint32_t i = 0; i < 5000; i++) put_header(plain + i * HEADER_BYTES, YAMUX_PING, FLAG_SYN, 0, i);
    for (int i = 0; i < 16; i++) {
        send_message(f, plain, sizeof plain);
        reactor_turn(r, 0);
        frames += 5000;
        if (!session_find(r, f->id)) return;
    }
}

static void use_local(local_t *l) {
    static uint8_t buffer[60000];
    switch (below(8)) {
    case 0:
    case 1:
    case 2: if (recv(l->fd, buffer, 1 + below(sizeof buffer - 1), MSG_DONTWAIT) < 0) break; break;
    case 3:
    case 4: if (send(l->fd, payload, 1 + below(60000), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) break; break;
    case 5: shutdown(l->fd, below(2) ? SHUT_WR : SHUT_RD); break;
    case 6:
        close(l->fd);
        l->fd = -1;
        break;
    default: {
        int pair[2];
        if (l->spliced) break;
        CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
        stream_splice(r, l->session, l->stream, l->fd, pair[0]);
        l->fd = pair[1];
        l->spliced = 1;
    }
    }
}

static void take_events(void) {
    event_t events[8];
    int n = reactor_take(r, events, 8);
    for (int i = 0; i < n; i++) {
        if (events[i].kind == EVENT_STREAM) keep_local(events[i].session, events[i].stream, events[i].fd);
        if (events[i].kind != EVENT_SESSION_ENDED) continue;
        CHECK(events[i].reason > 0 && events[i].reason < 16);
        reasons[events[i].reason]++;
        for (int k = 0; k < SESSIONS; k++)
            if (sessions[k].id == events[i].session) {
                close(sessions[k].peer);
                sessions[k].id = 0;
            }
    }
}

static void check_session(const session_t *s) {
    uint32_t inbound = 0, outbound = 0, waiting = 0;
    size_t queued = 0;
    for (int i = 0; i < BUCKETS; i++)
        for (const stream_t *t = s->table[i]; t; t = t->next) {
            CHECK(!t->ended && t->session == s);
            CHECK(t->queued <= t->queue_capacity && t->queued <= r->limits.max_window + 60000u * t->prepaid);
            CHECK(t->receive_window >= 0 && t->window <= r->limits.max_window);
            CHECK(!t->vector_count && !t->flushing);
            *(t->inbound ? &inbound : &outbound) += 1;
            waiting += t->in_backlog;
            queued += t->queued;
        }
    CHECK(inbound == s->inbound && outbound == s->outbound && waiting == s->backlog && queued == s->queued);
    CHECK(inbound <= r->limits.max_streams && outbound <= r->limits.max_streams);
    CHECK(queued <= r->limits.session_memory);
    CHECK(s->plain_size <= PLAIN_MAX && s->sealed_size <= s->sealed_capacity && s->sealed_offset <= s->sealed_size);
}

static void check_counts(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->slot_count; i++)
        if (r->slots[i]) {
            check_session(r->slots[i]);
            count++;
        }
    CHECK(count == r->session_count && !r->dirty && !r->flush);
    CHECK(r->memory <= r->limits.max_memory + count * (uint64_t)((SEALED_MESSAGES + 3) * SEALED_MAX));
    CHECK(r->promised <= r->limits.max_memory);
}

static void step(void) {
    fuzzed_t *f = &sessions[below(SESSIONS)];
    local_t *l = &locals[below(LOCALS)];
    if (!f->id) fresh_session(f);
    switch (below(16)) {
    case 0: {
        int fd;
        int64_t stream = stream_open(r, f->id, &fd);
        if (stream >= 0) keep_local(f->id, (uint32_t)stream, fd);
        break;
    }
    case 1:
    case 2:
    case 3:
        if (l->fd >= 0) use_local(l);
        break;
    case 4: take_events(); break;
    case 5:
        if (!below(4) && l->fd >= 0) stream_abort(r, l->session, l->stream);
        break;
    case 6:
        if (!below(100)) session_close(r, f->id, below(3));
        else if (!below(100)) shutdown(f->peer, SHUT_WR);
        break;
    case 7: fake_now += below(40) ? below(30000000) : below(2000000000); break;
    case 8:
        if (f->reads)
            while (recv(f->peer, noise_buffer, sizeof noise_buffer, MSG_DONTWAIT) > 0) continue;
        break;
    case 9:
        if (!below(2000)) send_pings(f);
        break;
    default: send_frame(f);
    }
    if (!below(3)) return;                /* more may come before it is read */
    reactor_turn(r, 0);
    check_counts();
}

/* A reactor with bounds of its own, until it has seen so many frames. */
static void epoch(uint64_t until) {
    limits_t limits = {
        .max_window = INITIAL_WINDOW << below(4),
        .max_streams = 2 + below(40),
        .max_memory = (uint64_t)1 << (18 + below(6)),
        .session_memory = (uint64_t)1 << (16 + below(7)),
        .bytes_per_second = below(3) ? 0 : 100000,
        .ping_every = SECOND * 2,
        .ping_timeout = SECOND * 3,
    };
    for (int i = 0; i < LOCALS; i++) locals[i].fd = -1;
    CHECK((r = reactor_new(&limits)));
    while (frames < until) step();
    for (int i = 0; i < LOCALS; i++)
        if (locals[i].fd >= 0) close(locals[i].fd);
    for (int i = 0; i < SESSIONS; i++)
        if (sessions[i].id) close(sessions[i].peer);
    for (int i = 0; i < 200; i++) {
        fake_now += SECOND;
        reactor_turn(r, 0);
        take_events();
    }
    CHECK(!r->session_count && !r->memory && !r->promised && !r->fast_ticking && !r->backlog_first && !r->linger_first);
    refused += r->counters.streams_refused;
    crowded += r->counters.streams_crowded;
    reactor_stop(r);
    reactor_free(r);
}

int main(int argc, char **argv) {
    uint64_t wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    signal(SIGPIPE, SIG_IGN);
    aead_use_sodium((uintptr_t[]){(uintptr_t)fake_seal, (uintptr_t)fake_open});
    while (frames < wanted) epoch(frames + 20000 < wanted ? frames + 20000 : wanted);
    printf("%llu streams refused, %llu crowded out; ", (unsigned long long)refused, (unsigned long long)crowded);
    printf("%llu frames, %llu sessions; ended by", (unsigned long long)frames, (unsigned long long)made);
    for (int i = 0; i < 16; i++)
        if (reasons[i]) printf(" %d: %llu", i, (unsigned long long)reasons[i]);
    printf("\n");
    return 0;
}
