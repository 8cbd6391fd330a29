/* The byte path of libp2p's TCP connections: noise transport messages and yamux, in one I/O thread that never takes the
 * GIL. Each yamux stream is one end of a pair of unix sockets, or any other socket that is put in its place.
 *
 * noise: https://noiseprotocol.org/noise.html revision 34; libp2p's framing: https://github.com/libp2p/specs/tree/master/noise.
 * yamux: https://github.com/hashicorp/yamux/blob/master/spec.md. */
#ifndef MLNET_SESSION_H
#define MLNET_SESSION_H

#include "session_reactor.h"

static void reactor_free(reactor_t *r) {
    if (!r) return;
    free(r->input);
    free(r->opened);
    free(r->slots);
    free(r);
}

/* NULL, with errno, when the machine has too little of something. */
static reactor_t *reactor_new(const limits_t *limits) {
    reactor_t *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->kind = KIND_WAKE;
    r->limits = *limits;
    r->input = malloc(READ_BYTES + SEALED_MAX);
    r->opened = malloc(READ_BYTES + SEALED_MAX);
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = r}};
    int failed = !r->input || !r->opened || r->epoll < 0 || r->wake < 0 || r->told < 0 ||
                 epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake, &event);
    int error = errno;
    if (!failed && (failed = engine_start(&r->engine))) error = ENOMEM;   /* libcrypto keeps no errno */
    if (failed) {
        if (r->epoll >= 0) close(r->epoll);
        if (r->wake >= 0) close(r->wake);
        if (r->told >= 0) close(r->told);
        reactor_free(r);
        errno = error;
        return NULL;
    }
    pthread_mutex_init(&r->mutex, NULL);
    pthread_mutex_init(&r->turnstile, NULL);
    pthread_mutex_init(&r->stopping, NULL);
    return r;
}

static int reactor_start(reactor_t *r) {
    static int registered = 0;
    pthread_mutex_lock(&all_mutex);
    if (!registered) registered = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
    r->next = all_reactors;
    all_reactors = r;
    r->running = 1;
    int error = pthread_create(&r->thread, NULL, reactor_main, r);
    if (error) {
        r->running = 0;
        all_reactors = r->next;
    }
    pthread_mutex_unlock(&all_mutex);
    if (!error) pthread_setname_np(r->thread, "mlnet-session");
    return error;
}

static void reactor_end(reactor_t *r) {
    r->stop = 1;
    if (r->running) {
        kick(r);
        pthread_join(r->thread, NULL);
    }
    enter(r);
    r->running = 0;
    r->dead = 1;
    for (uint32_t i = 0; i < r->slot_count; i++)
        if (r->slots[i]) session_end(r->slots[i], END_LOCAL);
    while (r->ended_streams) {
        stream_t *t = r->ended_streams;
        r->ended_streams = t->link;
        free(t);
    }
    while (r->ended_sessions) {
        session_t *s = r->ended_sessions;
        r->ended_sessions = s->link;
        free(s);
    }
    r->dirty = NULL;
    bury(r);
    drain_pool(&r->plain_pool);
    drain_pool(&r->sealed_pool);
    engine_end(&r->engine);       /* not later: libcrypto is taken down in exit() */
    close(r->epoll);
    close(r->wake);
    close(r->told);
    leave(r);
    /* Last: a child that is forked meanwhile finds it in the list, and marks its copy as dead. */
    pthread_mutex_lock(&all_mutex);
    for (reactor_t **at = &all_reactors; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    pthread_mutex_unlock(&all_mutex);
}

/* Ends the thread and all sessions at once. */
static void reactor_stop(reactor_t *r) {
    if (r->dead) return;
    pthread_mutex_lock(&r->stopping);   /* the host and the end of the process may want it at once */
    if (!r->dead) reactor_end(r);
    pthread_mutex_unlock(&r->stopping);
}

/* Takes over the TCP connection `fd` after its handshake; `plain` is what was already opened of it. The session's
 * number, or -1 with errno; then `fd` is still the caller's. */
static int64_t session_add(reactor_t *r, int fd, int initiator, const uint8_t *seal_key, uint64_t sealed,
                           const uint8_t *open_key, uint64_t opened, const uint8_t *plain, size_t plain_size) {
    int one = 1, flags = fcntl(fd, F_GETFL);
    if (!aead.sodium_seal && !aead.context_new) {
        errno = ENOSYS;
        return -1;
    }
    if (r->dead || plain_size > READ_BYTES || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) {
        errno = EINVAL;
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    session_t *s = calloc(1, sizeof *s);
    if (!s) return -1;
    s->kind = KIND_SESSION;
    s->reactor = r;
    s->initiator = (uint8_t)initiator;
    s->next_stream = initiator ? 1 : 2;
    s->heard = s->waste_at = s->budget_at = now_ns();
    s->waste = WASTE_BURST;
    s->budget = (int64_t)r->limits.bytes_per_second;
    cipher_start(&s->seal, seal_key, sealed);
    cipher_start(&s->open, open_key, opened);
    enter(r);
    if (r->dead || session_enlist(r, s)) {
        leave(r);
        cipher_end(&s->seal);
        cipher_end(&s->open);
        free(s);
        errno = ENOMEM;
        return -1;
    }
    int64_t id = (int64_t)s->id;
    s->fd = fd;
    if (plain_size) {
        memcpy(r->opened, plain, plain_size);
        take_plain(s, r->opened, plain_size);
        flush_streams(r);
    }
    if (!s->ended) set_interest(r, s, fd, &s->interest, EPOLLIN | (s->blocked ? EPOLLOUT : 0));
    flush_dirty(r);
    leave(r);
    kick(r);                      /* so that time counts */
    return id;
}

/* Says goodbye, and ends when what is queued is written, or soon. */
static int session_close(reactor_t *r, uint64_t id, uint32_t code) {
    if (r->dead) return -1;
    enter(r);
    if (r->dead) {                /* meanwhile: its descriptors are closed */
        leave(r);
        return -1;
    }
    session_t *s = session_find(r, id);
    if (s && !s->closing) {
        for (int i = 0; i < BUCKETS && !s->ended; i++)
            for (stream_t *t = s->table[i], *next; t && !s->ended; t = next) {
                next = t->next;
                if (t->fd >= 0 && !t->send_closed) stream_read(t, 1);
            }
        s->said_goodbye = 0;
        for (int i = 0; i < BUCKETS && !s->ended; i++)
            while (s->table[i]) stream_end(s->table[i], END_LOCAL);
        if (!s->ended && !send_control(s, YAMUX_GO_AWAY, 0, 0, code)) {
            s->closing = now_ns() + FAREWELL;
            r->busy_count++;
            r->next_tick = 0;
            flush_dirty(r);
            if (!s->ended && !s->sealed && !s->farewell) write_sealed(s);
        }
    }
    leave(r);
    kick(r);
    return s ? 0 : -1;
}

/* The other end of a new pair of sockets behind a stream; -1 with errno. */
static int stream_attach(stream_t *t) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) return -1;
    t->fd = pair[0];
    t->known = 1;
    if (t->queued) stream_write(t);
    if (!t->ended) stream_finish_receiving(t);
    if (!t->ended) stream_interest(t);
    return pair[1];
}

/* A new stream: its number, and its descriptor in *fd. -1 with errno: ENOTCONN, EAGAIN for too many. */
static int64_t stream_open(reactor_t *r, uint64_t session, int *fd) {
    if (r->dead) {
        errno = ENOTCONN;
        return -1;
    }
    enter(r);
    session_t *s = session_find(r, session);
    int64_t id = -1;
    int error = ENOTCONN;
    if (s && !s->closing && !s->said_goodbye && s->next_stream < UINT32_MAX - 2) {
        stream_t *t = s->outbound < r->limits.max_streams ? stream_new(s, s->next_stream, 0) : NULL;
        error = EAGAIN;
        if (t && (*fd = stream_attach(t)) < 0) {
            error = errno;
            stream_end(t, END_LOCAL);
        } else if (t) {
            id = t->id;
            s->next_stream += 2;
            send_control(s, YAMUX_WINDOW, FLAG_SYN, t->id, 0);
            flush_dirty(r);
        }
    }
    leave(r);
    errno = error;
    return id;
}

/* Puts `socket` in the place of a stream's pair, of which `pair` is the other end; what lies unread in that goes to
 * `socket` first. Both are ours from here on. */
static int stream_splice(reactor_t *r, uint64_t session, uint32_t id, int pair, int socket) {
    int done = 0, unread = 0, flags = fcntl(socket, F_GETFL);
    if (!r->dead) {
        enter(r);
        session_t *s = session_find(r, session);
        stream_t *t = s ? stream_find(s, id) : NULL;
        if (t && t->fd >= 0) stream_read(t, 1);
        if (t && !t->ended && (t->send_closed || (!ioctl(t->fd, FIONREAD, &unread) && !unread))) {
            uint8_t *queue = t->queue, *rest = t->queue + t->queue_offset, buffer[4096];
            size_t queued = t->queued, capacity = t->queue_capacity;
            int failed = flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK);
            ssize_t n;
            t->queue = NULL;
            t->queued = t->queue_offset = t->queue_capacity = 0;
            s->queued -= queued;
            while (!failed && (n = recv(pair, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
                failed = queue_put(t, buffer, (size_t)n);
                t->prepaid += (uint32_t)n;
            }
            if (!failed && queued) failed = queue_put(t, rest, queued);
            free(queue);
            r->memory -= capacity;
            set_interest(r, t, t->fd, &t->interest, 0);
            close(t->fd);
            t->fd = socket;
            t->finished = t->reader_gone = 0;
            stop_lingering(t);
            done = 1;
            if (failed) {
                stream_crowded(t);
            } else {
                if (t->queued) stream_write(t);
                if (!t->ended) stream_finish_receiving(t);
                if (!t->ended && t->send_closed) stream_end_if_finished(t);
                else if (!t->ended) stream_read(t, 0);
            }
        } else if (t && !t->ended) {
            stream_reset(t, END_LOCAL);
        }
        flush_dirty(r);
        leave(r);
    }
    close(pair);
    if (!done) close(socket);
    return done ? 0 : -1;
}

static int stream_abort(reactor_t *r, uint64_t session, uint32_t id) {
    if (r->dead) return -1;
    enter(r);
    session_t *s = session_find(r, session);
    stream_t *t = s ? stream_find(s, id) : NULL;
    if (t) {
        stream_reset(t, END_LOCAL);
        flush_dirty(r);
    }
    leave(r);
    return t ? 0 : -1;
}

enum { NEWS_STREAM, NEWS_STREAM_ENDED, NEWS_SESSION_ENDED };

typedef struct {
    int kind;
    uint64_t session;
    uint32_t stream;
    int fd, reason;
} news_t;

/* What has happened since: at most `max` of it; how much was written to `out`. */
static int reactor_take(reactor_t *r, news_t *out, int max) {
    uint64_t count;
    int n = 0;
    if (r->dead) return 0;
    enter(r);
    if (r->dead) {                /* meanwhile: its descriptors are closed */
        leave(r);
        return 0;
    }
    if (read(r->told, &count, sizeof count) < 0) count = 0;
    while (n < max && r->waits_first) {
        stream_t *t = r->waits_first;
        session_t *s = t->session;
        stream_stop_waiting(t);
        int fd = stream_attach(t);
        if (fd < 0) {
            r->counters.streams_refused++;
            stream_reset(t, END_LOCAL);
            continue;
        }
        r->counters.streams_accepted++;
        out[n++] = (news_t){NEWS_STREAM, s->id, t->id, fd, END_NONE};
    }
    while (n < max && r->ended_streams) {
        stream_t *t = r->ended_streams;
        r->ended_streams = t->link;
        out[n++] = (news_t){NEWS_STREAM_ENDED, t->session_id, t->id, -1, t->reason};
        t->link = r->dead_streams;
        r->dead_streams = t;
    }
    while (n < max && r->ended_sessions) {
        session_t *s = r->ended_sessions;
        r->ended_sessions = s->link;
        out[n++] = (news_t){NEWS_SESSION_ENDED, s->id, 0, -1, s->reason};
        s->link = r->dead_sessions;
        r->dead_sessions = s;
    }
    if (r->waits_first || r->ended_streams || r->ended_sessions) tell(r);
    flush_dirty(r);
    if (!r->running) bury(r);
    leave(r);
    return n;
}

#endif
