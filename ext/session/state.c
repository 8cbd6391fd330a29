/* What everything stands on: the lock, memory, epoll interest, token buckets, and a session's number and end. */
#include "internal.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ------------------------------------------------------------------ the lock, and two ways of waking somebody */

/* A mutex is not fair: a busy I/O thread that unlocks it takes it again before anybody who waits for it is awake. So
 * all queue at the turnstile, where a waiting caller keeps the I/O thread out while it sleeps on the mutex. */
void reactor_lock(reactor_t *r) {
    pthread_mutex_lock(&r->turnstile);
    pthread_mutex_lock(&r->mutex);
    pthread_mutex_unlock(&r->turnstile);
}

void reactor_unlock(reactor_t *r) { pthread_mutex_unlock(&r->mutex); }

/* Ends the I/O thread's epoll_wait. Under the lock, unless by reactor_stop: a reactor that is stopped meanwhile closes
 * the descriptor, whose number may then be another's. */
void reactor_wake(reactor_t *r) {
    uint64_t one = 1;
    if (write(r->wake_fd, &one, sizeof one) < 0) return;   /* the counter is full, so that it wakes anyway */
}

/* Tells users that there is something to take. */
void notify(reactor_t *r) {
    uint64_t one = 1;
    if (write(r->event_fd, &one, sizeof one) < 0) return;   /* the counter is full, so that it is readable already */
}

/* Has epoll report `want` for a descriptor, and remembers that in *have: most calls find nothing to change.
 * Everything is level-triggered, so that whatever a turn leaves behind is reported again. */
void set_interest(reactor_t *r, void *object, int fd, uint32_t *have, uint32_t want) {
    if (*have == want) return;
    struct epoll_event event = {.events = want, .data = {.ptr = object}};
    epoll_ctl(r->epoll_fd, !*have ? EPOLL_CTL_ADD : !want ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd, &event);
    *have = want;
}

/* ------------------------------------------------------------------ memory */

/* Buffers of one size to a pool. A session takes one when it has something to send and gives it back when that is
 * written, under load every few microseconds: from malloc, half a MiB may be mapped and unmapped each time. */
void *pool_take(reactor_t *r, pool_t *pool, size_t size) {
    block_t *b = pool->first;
    if (b) {
        pool->first = b->next;
        pool->count--;
    } else if (!(b = malloc(size))) {
        return NULL;
    }
    r->memory += size;
    return b;
}

void pool_give(reactor_t *r, pool_t *pool, void *memory, size_t size) {
    r->memory -= size;
    if (pool->count >= POOLED_BUFFERS) {
        free(memory);
        return;
    }
    block_t *b = memory;
    b->next = pool->first;
    pool->first = b;
    pool->count++;
}

void pool_drain(pool_t *pool) {
    while (pool->first) {
        block_t *b = pool->first;
        pool->first = b->next;
        free(b);
    }
    pool->count = 0;
}

/* ------------------------------------------------------------------ token buckets */

/* Takes `wanted` tokens from a bucket that gains `rate` a second up to `burst`; whether it held so many. The tokens
 * may become negative: what was received cannot be given back, and delays what follows. */
int take_tokens(int64_t *tokens, int64_t *refilled, int64_t rate, int64_t burst, int64_t wanted, int64_t now) {
    int64_t elapsed = now - *refilled;
    if (elapsed > SECOND * 60) elapsed = SECOND * 60;   /* the product below must fit 63 bits for rates up to 10^11 */
    int64_t more = elapsed / 1000 * rate / (SECOND / 1000);
    if (more > 0) {               /* else time goes on counting: at a low rate no fraction of a token is lost */
        *tokens = *tokens + more > burst ? burst : *tokens + more;
        *refilled = now;
    }
    *tokens -= wanted;
    return *tokens >= 0;
}

/* ------------------------------------------------------------------ sessions */

/* A session's number is a generation above a slot: a number that outlives its session does not name the next one in
 * the same slot. */
enum { SLOT_BITS = 20 };

session_t *session_find(const reactor_t *r, uint64_t id) {
    uint64_t slot = id & ((1u << SLOT_BITS) - 1);
    session_t *s = slot < r->slot_count ? r->slots[slot] : NULL;
    return s && s->id == id ? s : NULL;
}

/* Gives a new session its number; -1 when memory is exhausted. */
int session_register(reactor_t *r, session_t *s) {
    uint32_t slot = 0;
    while (slot < r->slot_count && r->slots[slot]) slot++;
    if (slot == r->slot_count) {
        uint32_t count = r->slot_count ? r->slot_count * 2 : 16;
        session_t **bigger = count > 1u << SLOT_BITS ? NULL : realloc(r->slots, count * sizeof *bigger);
        if (!bigger) return -1;
        memset(bigger + r->slot_count, 0, (count - r->slot_count) * sizeof *bigger);
        r->slots = bigger;
        r->slot_count = count;
    }
    r->slots[slot] = s;
    r->session_count++;
    s->id = ++r->generation << SLOT_BITS | slot;
    return 0;
}

/* Ends a session and its streams: closes its descriptors, zeroes its keys, and leaves the news for reactor_take. */
void session_end(session_t *s, int reason) {
    reactor_t *r = s->reactor;
    if (s->ended) return;
    s->ended = 1;
    s->reason = (uint8_t)reason;
    for (int i = 0; i < BUCKETS; i++)
        while (s->table[i]) stream_end(s->table[i], reason == END_LOCAL ? END_LOCAL : END_RESET);
    set_interest(r, s, s->fd, &s->interest, 0);
    close(s->fd);
    s->fd = -1;
    s->plain_size = 0;
    drop_plain(s);
    drop_sealed(s);
    keep_partial(s, NULL, 0);
    cipher_end(&s->seal);
    cipher_end(&s->open);
    r->fast_ticking -= (uint32_t)(s->paused + (s->close_deadline != 0));
    r->slots[s->id & ((1u << SLOT_BITS) - 1)] = NULL;
    r->session_count--;
    s->link = r->ended_sessions;
    r->ended_sessions = s;
    notify(r);
}

/* Frees what has ended and been reported. Not while events that may point there are being handled. */
void reap(reactor_t *r) {
    while (r->dead_streams) {
        stream_t *t = r->dead_streams;
        r->dead_streams = t->link;
        free(t);
    }
    while (r->dead_sessions) {
        session_t *s = r->dead_sessions;
        r->dead_sessions = s->link;
        free(s);
    }
}
