/* The I/O thread: it waits for descriptors with epoll, keeps the time, and begins and ends with its reactor.
 *
 * epoll, because a node has thousands of descriptors of which few are busy: poll would copy and scan all of them each
 * time. eventfd, because it counts wakes in one descriptor and cannot fill up as a pipe does; one wakes this thread,
 * the other, which users wait for, stands for what there is to take. */
#include "internal.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* For fork, which must hold the locks of all of them. */
static reactor_t *all_reactors;
static pthread_mutex_t all_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Both ways of giving way, below, cost a system call and pay only while those who feed us share our processors. */
enum {
    YIELD_IDLE = 30000,           /* nanoseconds: a yield that comes back sooner has met nobody */
    YIELD_LATE = 2000000,         /* one that comes back later cost a time slice: it has met others than those */
    YIELDS_SKIPPED_IDLE = 31,
    YIELDS_SKIPPED_LATE = 255,
    BUSY_POLL = 60000             /* nanoseconds: a peer on the same machine answers in about 40000, and it is a small
                                   * part of a scheduler's time slice: going idle costs next to nothing */
};

/* ------------------------------------------------------------------ time */

/* What depends on time alone: the end of a close, the end of a pause, and whether the peer is still there. */
static void tick_session(session_t *s, int64_t now) {
    reactor_t *r = s->reactor;
    if (s->close_deadline) {
        if (now >= s->close_deadline) session_end(s, END_LOCAL);
        return;
    }
    if (s->paused) {
        if (!take_tokens(&s->read_tokens, &s->read_refilled, (int64_t)r->limits.bytes_per_second,
                         (int64_t)r->limits.bytes_per_second, 0, now))
            return;
        s->paused = 0;
        s->last_received = now;   /* its silence was ours: we did not listen */
        r->fast_ticking--;
        set_interest(r, s, s->fd, &s->interest, EPOLLIN | (s->blocked ? EPOLLOUT : 0));
    }
    int64_t silent = now - s->last_received;
    if (s->ping_sent && silent > r->limits.ping_timeout && now - s->ping_sent > r->limits.ping_timeout) {
        session_end(s, END_SILENT);
    } else if (!s->ping_sent && silent > r->limits.ping_every) {
        s->ping_sent = now;
        r->counters.pings++;
        send_control(s, YAMUX_PING, FLAG_SYN, 0, ++s->ping_number);
    } else if (s->ping_sent && s->last_received > s->ping_sent) {
        s->ping_sent = 0;         /* whatever it sent shows that it lives: answers may queue behind data */
    }
}

static void tick(reactor_t *r, int64_t now) {
    for (uint32_t i = 0; i < r->slot_count; i++)
        if (r->slots[i]) tick_session(r->slots[i], now);
    while (r->linger_first && r->linger_first->linger_until <= now) stream_reset(r->linger_first, END_LOCAL);
    r->next_tick = now + (r->fast_ticking ? FAST_TICK : SLOW_TICK);
}

/* ------------------------------------------------------------------ events */

/* An error is found, and turned into a reason, by reading. */
static void handle_session(session_t *s, uint32_t events) {
    if (s->ended) return;
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) session_read(s);
    if (!s->ended && (events & EPOLLOUT)) session_unblock(s);
}

/* A hang-up still leaves bytes to read, which the reader wrote before. */
static void handle_stream(stream_t *t, uint32_t events) {
    int hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
    if (t->ended) return;
    if ((events & EPOLLOUT) || (hung_up && t->queued)) stream_write(t);
    if (t->ended || !(hung_up || (events & EPOLLIN))) return;
    if (!t->send_closed) stream_read(t, 0);
    else if (hung_up) stream_reader_gone(t);
}

/* Under load, lets those who feed us run first, so that there are fewer and fuller messages: each of them costs a
 * call of the cipher on both sides, however short it is. A yield that comes back at once met no load, one that comes
 * back late met other people's: then the next ones are skipped. */
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

/* Looks for events again and again for a moment, giving way in between, instead of sleeping. Waking a thread that
 * sleeps takes about as long as the next message takes to come when a request follows a reply: it would be a large
 * part of the time of a short call. Only a thread that has just had something to do does so; yielding leaves the
 * processor to whoever has work, and busy polling is skipped for a while when they keep it. */
static int busy_poll(reactor_t *r, struct epoll_event *events) {
    if (r->skip_busy_polls > 0) {
        r->skip_busy_polls--;
        return 0;
    }
    int64_t before = now_ns(), until = before + BUSY_POLL;
    while (before < until) {
        int n = epoll_wait(r->epoll_fd, events, BATCH, 0);
        if (n) return n;
        sched_yield();
        int64_t after = now_ns();
        if (after - before > YIELD_LATE) r->skip_busy_polls = YIELDS_SKIPPED_LATE;
        before = after;
    }
    return 0;
}

/* Handles one batch of events; waits at most `timeout` milliseconds for it, -1 for ever. Sleeping and yielding come
 * before the lock. Sending comes last, so that all frames of a turn share messages. */
void reactor_turn(reactor_t *r, int timeout) {
    struct epoll_event events[BATCH];
    int n = timeout && r->was_active ? busy_poll(r, events) : 0;
    if (!n) n = epoll_wait(r->epoll_fd, events, BATCH, timeout);
    r->was_active = n > 0;
    if (r->running) yield_to_writers(r);
    reactor_lock(r);
    r->counters.wakes++;
    for (int i = 0; i < n; i++) {
        void *object = events[i].data.ptr;
        uint64_t count;
        switch (*(int *)object) {
        case KIND_SESSION: handle_session(object, events[i].events); break;
        case KIND_STREAM: handle_stream(object, events[i].events); break;
        default: if (read(r->wake_fd, &count, sizeof count) < 0) break;
        }
    }
    int64_t now = now_ns();
    if (now >= r->next_tick) tick(r, now);
    flush_dirty(r);
    reap(r);
    reactor_unlock(r);
}

/* Milliseconds until the next tick; -1 when there is no session: a node without peers does not wake. */
static int reactor_timeout(reactor_t *r) {
    reactor_lock(r);
    int idle = !r->session_count;
    int64_t left = (r->next_tick - now_ns()) / 1000000 + 1;
    reactor_unlock(r);
    return idle ? -1 : left < 0 ? 0 : (int)left;
}

static void *reactor_main(void *argument) {
    reactor_t *r = argument;
    sigset_t all;                 /* signals are for Python's main thread, where they interrupt what they must */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!r->stop) reactor_turn(r, reactor_timeout(r));
    return NULL;
}

/* ------------------------------------------------------------------ fork */

/* A forked child has copies of all descriptors, but no I/O thread. It closes them, or the peers would not see the end
 * of the parent. It must not change the epoll set first: that is shared with the parent. Nor does it free anything,
 * since a child between fork and exec may not count on the heap.
 *
 * The handlers hold every lock across fork, so that the child finds the lists whole and the mutexes unlockable.
 * Another thread may have waited at a turnstile, which is locked for ever in the child: so every call looks at `dead`
 * first. */
static void before_fork(void) {
    pthread_mutex_lock(&all_mutex);
    for (reactor_t *r = all_reactors; r; r = r->next) reactor_lock(r);
}

static void after_fork_in_parent(void) {
    for (reactor_t *r = all_reactors; r; r = r->next) reactor_unlock(r);
    pthread_mutex_unlock(&all_mutex);
}

static void after_fork_in_child(void) {
    for (reactor_t *r = all_reactors; r; r = r->next) {
        if (r->dead) {                /* its descriptors' numbers may be others' by now */
            reactor_unlock(r);
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
        close(r->epoll_fd);
        close(r->wake_fd);
        close(r->event_fd);
        r->dead = 1;
        r->running = 0;
        reactor_unlock(r);
    }
    all_reactors = NULL;
    pthread_mutex_unlock(&all_mutex);
}

/* ------------------------------------------------------------------ life */

void reactor_free(reactor_t *r) {
    if (!r) return;
    free(r->input);
    free(r->opened);
    free(r->slots);
    free(r);
}

reactor_t *reactor_new(const limits_t *limits) {
    reactor_t *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->kind = KIND_WAKE;
    r->limits = *limits;
    r->input = malloc(READ_BYTES + SEALED_MAX);   /* room for an incomplete message before what is read */
    r->opened = malloc(READ_BYTES + SEALED_MAX);
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = r}};
    int failed = !r->input || !r->opened || r->epoll_fd < 0 || r->wake_fd < 0 || r->event_fd < 0 ||
                 epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->wake_fd, &event);
    int error = errno;
    if (!failed && (failed = engine_start(&r->engine))) error = ENOMEM;   /* libcrypto keeps no errno */
    if (failed) {
        if (r->epoll_fd >= 0) close(r->epoll_fd);
        if (r->wake_fd >= 0) close(r->wake_fd);
        if (r->event_fd >= 0) close(r->event_fd);
        reactor_free(r);
        errno = error;
        return NULL;
    }
    pthread_mutex_init(&r->mutex, NULL);
    pthread_mutex_init(&r->turnstile, NULL);
    pthread_mutex_init(&r->stopping, NULL);
    return r;
}

/* In the list before it runs: a fork in between must find it. */
int reactor_start(reactor_t *r) {
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

/* The thread first, so that nobody works on what is freed. Nothing is reported any more: events that were not taken
 * are dropped. */
static void reactor_end(reactor_t *r) {
    r->stop = 1;
    if (r->running) {
        reactor_wake(r);
        pthread_join(r->thread, NULL);
    }
    reactor_lock(r);
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
    reap(r);
    pool_drain(&r->plain_pool);
    pool_drain(&r->sealed_pool);
    engine_end(&r->engine);       /* not later: libcrypto is taken down in exit() */
    close(r->epoll_fd);
    close(r->wake_fd);
    close(r->event_fd);
    reactor_unlock(r);
    /* Last: a child that is forked meanwhile finds it in the list, and marks its copy as dead. */
    pthread_mutex_lock(&all_mutex);
    for (reactor_t **at = &all_reactors; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    pthread_mutex_unlock(&all_mutex);
}

void reactor_stop(reactor_t *r) {
    if (r->dead) return;
    pthread_mutex_lock(&r->stopping);   /* the host and the end of the process may want it at once: join only once */
    if (!r->dead) reactor_end(r);
    pthread_mutex_unlock(&r->stopping);
}

int reactor_event_fd(const reactor_t *r) { return r->event_fd; }

/* Without the lock, which the I/O thread holds for a whole batch: each number is right, though not all of one
 * moment. */
void reactor_counters(const reactor_t *r, counters_t *out) {
    *out = r->counters;
    out->sessions = r->session_count;
    out->memory = r->memory;
}
