/* Sessions from their birth to their end, and the thread that serves them. */
#ifndef MLNET_SESSION_REACTOR_H
#define MLNET_SESSION_REACTOR_H

#include "session_stream.h"

static reactor_t *all_reactors;
static pthread_mutex_t all_mutex = PTHREAD_MUTEX_INITIALIZER;

/* A busy I/O thread would take the mutex again before anybody who waits for it woke up: they queue at the turnstile. */
static void enter(reactor_t *r) {
    pthread_mutex_lock(&r->turnstile);
    pthread_mutex_lock(&r->mutex);
    pthread_mutex_unlock(&r->turnstile);
}

static void leave(reactor_t *r) { pthread_mutex_unlock(&r->mutex); }

static void kick(reactor_t *r) {
    uint64_t one = 1;
    if (write(r->wake, &one, sizeof one) < 0) return;   /* it will wake anyway */
}

/* ------------------------------------------------------------------ sessions */

enum { SLOT_BITS = 20 };

enum {
    YIELD_IDLE = 30000,           /* nanoseconds: a yield that comes back sooner met nobody */
    YIELD_LATE = 2000000,         /* and one that comes back later met others than those who feed us */
    YIELDS_SKIPPED_IDLE = 31,
    YIELDS_SKIPPED_LATE = 255,
    LOITER = 60000                /* nanoseconds */
};

static session_t *session_find(const reactor_t *r, uint64_t id) {
    uint64_t slot = id & ((1u << SLOT_BITS) - 1);
    session_t *s = slot < r->slot_count ? r->slots[slot] : NULL;
    return s && s->id == id ? s : NULL;
}

static int session_enlist(reactor_t *r, session_t *s) {
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

static void session_end(session_t *s, int reason) {
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
    keep_part(s, NULL, 0);
    cipher_end(&s->seal);
    cipher_end(&s->open);
    r->busy_count -= (uint32_t)(s->paused + (s->closing != 0));
    r->slots[s->id & ((1u << SLOT_BITS) - 1)] = NULL;
    r->session_count--;
    s->link = r->ended_sessions;
    r->ended_sessions = s;
    tell(r);
}

/* ------------------------------------------------------------------ the I/O thread */

static void tick_session(session_t *s, int64_t now) {
    reactor_t *r = s->reactor;
    if (s->closing) {
        if (now >= s->closing) session_end(s, END_LOCAL);
        return;
    }
    if (s->paused) {
        if (!take_tokens(&s->budget, &s->budget_at, (int64_t)r->limits.bytes_per_second,
                         (int64_t)r->limits.bytes_per_second, 0, now))
            return;
        s->paused = 0;
        s->heard = now;           /* we did not listen */
        r->busy_count--;
        set_interest(r, s, s->fd, &s->interest, EPOLLIN | (s->blocked ? EPOLLOUT : 0));
    }
    int64_t silent = now - s->heard;
    if (s->pinged && silent > r->limits.ping_timeout && now - s->pinged > r->limits.ping_timeout) {
        session_end(s, END_SILENT);
    } else if (!s->pinged && silent > r->limits.ping_every) {
        s->pinged = now;
        r->counters.pings++;
        send_control(s, YAMUX_PING, FLAG_SYN, 0, ++s->ping_number);
    } else if (s->pinged && s->heard > s->pinged) {
        s->pinged = 0;            /* whatever it sent shows that it lives */
    }
}

static void tick(reactor_t *r, int64_t now) {
    for (uint32_t i = 0; i < r->slot_count; i++)
        if (r->slots[i]) tick_session(r->slots[i], now);
    while (r->linger_first && r->linger_first->linger_until <= now) stream_reset(r->linger_first, END_LOCAL);
    r->next_tick = now + (r->busy_count ? FAST_TICK : SLOW_TICK);
}

static void bury(reactor_t *r) {
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

static void handle_session(session_t *s, uint32_t events) {
    if (s->ended) return;
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) session_read(s);
    if (!s->ended && (events & EPOLLOUT)) session_unblock(s);
}

static void handle_stream(stream_t *t, uint32_t events) {
    int hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
    if (t->ended) return;
    if ((events & EPOLLOUT) || (hung_up && t->queued)) stream_write(t);
    if (t->ended || !(hung_up || (events & EPOLLIN))) return;
    if (!t->send_closed) stream_read(t, 0);
    else if (hung_up) stream_reader_gone(t);
}

/* Under load, those who feed us run first, so that there are fewer and fuller messages. A yield that comes back at once
 * met no load, one that comes back late met other people's: then it is left for a while. */
static void yield_to_writers(reactor_t *r) {
    if (r->skip_yields > 0) {
        r->skip_yields--;
        return;
    }
    int64_t before = now_ns();
    sched_yield();
    int64_t took = now_ns() - before;
    r->counters.yields++;
    if (took < YIELD_IDLE) r->skip_yields = YIELDS_SKIPPED_IDLE;
    else if (took > YIELD_LATE) r->skip_yields = YIELDS_SKIPPED_LATE;
}

/* Whoever sleeps must be woken, which takes about as long as the next message when one follows another: a thread that has
 * just had something to do gives way for a moment instead. That costs nothing when somebody else has work, and is left
 * for a while when they keep the processor. */
static int loiter(reactor_t *r, struct epoll_event *events) {
    if (r->skip_loiters > 0) {
        r->skip_loiters--;
        return 0;
    }
    int64_t before = now_ns(), until = before + LOITER;
    while (before < until) {
        int n = epoll_wait(r->epoll, events, BATCH, 0);
        if (n) return n;
        sched_yield();
        int64_t after = now_ns();
        if (after - before > YIELD_LATE) r->skip_loiters = YIELDS_SKIPPED_LATE;
        before = after;
    }
    return 0;
}

/* One batch of events; waits at most `timeout` milliseconds, -1 for ever. */
static void reactor_turn(reactor_t *r, int timeout) {
    struct epoll_event events[BATCH];
    int n = timeout && r->lively ? loiter(r, events) : 0;
    if (!n) n = epoll_wait(r->epoll, events, BATCH, timeout);
    r->lively = n > 0;
    if (r->running) yield_to_writers(r);
    enter(r);
    r->counters.wakes++;
    for (int i = 0; i < n; i++) {
        void *object = events[i].data.ptr;
        uint64_t count;
        switch (*(int *)object) {
        case KIND_SESSION: handle_session(object, events[i].events); break;
        case KIND_STREAM: handle_stream(object, events[i].events); break;
        default: if (read(r->wake, &count, sizeof count) < 0) break;
        }
    }
    int64_t now = now_ns();
    if (now >= r->next_tick) tick(r, now);
    flush_dirty(r);
    bury(r);
    leave(r);
}

/* Milliseconds until the next tick; -1 when nothing depends on time. */
static int reactor_timeout(reactor_t *r) {
    enter(r);
    int idle = !r->session_count;
    int64_t left = (r->next_tick - now_ns()) / 1000000 + 1;
    leave(r);
    return idle ? -1 : left < 0 ? 0 : (int)left;
}

static void *reactor_main(void *argument) {
    reactor_t *r = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!r->stop) reactor_turn(r, reactor_timeout(r));
    return NULL;
}

/* A forked child has copies of all descriptors, but no I/O thread. It closes them, or the peers would not see the end of
 * the parent. It leaves the epoll set alone, which it shares with the parent. */
static void before_fork(void) {
    pthread_mutex_lock(&all_mutex);
    for (reactor_t *r = all_reactors; r; r = r->next) enter(r);
}

static void after_fork_in_parent(void) {
    for (reactor_t *r = all_reactors; r; r = r->next) leave(r);
    pthread_mutex_unlock(&all_mutex);
}

static void after_fork_in_child(void) {
    for (reactor_t *r = all_reactors; r; r = r->next) {
        if (r->dead) {                /* its descriptors' numbers may be others' by now */
            leave(r);
            continue;
        }
        for (uint32_t i = 0; i < r->slot_count; i++) {
            session_t *s = r->slots[i];
            if (!s) continue;
            for (int b = 0; b < BUCKETS; b++)
                for (stream_t *t = s->table[b]; t; t = t->next)
                    if (t->fd >= 0) close(t->fd);
            close(s->fd);
        }
        close(r->epoll);
        close(r->wake);
        close(r->told);
        r->dead = 1;
        r->running = 0;
        leave(r);
    }
    all_reactors = NULL;
    pthread_mutex_unlock(&all_mutex);
}

#endif
