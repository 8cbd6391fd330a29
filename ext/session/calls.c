/* What users ask for: each call takes the lock, looks the object up by its number, which may be long gone, and has
 * what it caused sealed and written before it lets go. session.h describes the calls.
 *
 * Each looks at `dead` before it takes the lock, which a forked child could not get, and those that touch descriptors
 * once more after it: a reactor that was stopped meanwhile has closed them. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int64_t session_add(reactor_t *r, int fd, int initiator, const uint8_t *seal_key, uint64_t sealed,
                           const uint8_t *open_key, uint64_t opened, const uint8_t *plain, size_t plain_size) {
    int one = 1, flags = fcntl(fd, F_GETFL);
    if (!aead_chosen()) {
        errno = ENOSYS;
        return -1;
    }
    if (r->dead || plain_size > READ_BYTES || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) {
        errno = EINVAL;
        return -1;
    }
    /* Messages are gathered here already: Nagle's algorithm would only delay the last one of each turn. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    session_t *s = calloc(1, sizeof *s);
    if (!s) return -1;
    s->kind = KIND_SESSION;
    s->reactor = r;
    s->initiator = (uint8_t)initiator;
    s->next_stream = initiator ? 1 : 2;   /* yamux, "StreamID Field": the client's are odd */
    s->last_received = s->waste_refilled = s->read_refilled = now_ns();
    s->waste_tokens = WASTE_BURST;
    s->read_tokens = (int64_t)r->limits.bytes_per_second;
    cipher_start(&s->seal, seal_key, sealed);
    cipher_start(&s->open, open_key, opened);
    reactor_lock(r);
    if (r->dead || session_register(r, s)) {
        reactor_unlock(r);
        cipher_end(&s->seal);
        cipher_end(&s->open);
        free(s);
        errno = ENOMEM;
        return -1;
    }
    int64_t id = (int64_t)s->id;
    s->fd = fd;
    if (plain_size) {             /* as if it had just been opened */
        memcpy(r->opened, plain, plain_size);
        parse_frames(s, r->opened, plain_size);
        flush_streams(r);
    }
    if (!s->ended) set_interest(r, s, fd, &s->interest, EPOLLIN | (s->blocked ? EPOLLOUT : 0));
    flush_dirty(r);
    reactor_wake(r);              /* without sessions it sleeps without a tick */
    reactor_unlock(r);
    return id;
}

/* Streams first: what their users have written before is still sent, as far as windows allow. */
int session_close(reactor_t *r, uint64_t id, uint32_t code) {
    if (r->dead) return -1;
    reactor_lock(r);
    if (r->dead) {
        reactor_unlock(r);
        return -1;
    }
    session_t *s = session_find(r, id);
    if (s && !s->close_deadline) {
        for (int i = 0; i < BUCKETS && !s->ended; i++)
            for (stream_t *t = s->table[i], *next; t && !s->ended; t = next) {
                next = t->next;
                if (t->fd >= 0 && !t->send_closed) stream_read(t, 1);
            }
        s->go_away_received = 0;  /* else the end of the last stream would end the session before our own Go Away */
        for (int i = 0; i < BUCKETS && !s->ended; i++)
            while (s->table[i]) stream_end(s->table[i], END_LOCAL);
        if (!s->ended && !send_control(s, YAMUX_GO_AWAY, 0, 0, code)) {
            s->close_deadline = now_ns() + CLOSE_TIMEOUT;
            r->fast_ticking++;
            r->next_tick = 0;
            flush_dirty(r);
            if (!s->ended && !s->sealed && !s->shut_down) write_sealed(s);
        }
    }
    reactor_wake(r);
    reactor_unlock(r);
    return s ? 0 : -1;
}

/* Puts a new pair of sockets behind a stream, and returns the user's end; -1 with errno. A pair, since whoever reads
 * and writes it may then be anything that takes a descriptor: trio, gRPC, another process. */
static int stream_attach(stream_t *t) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) return -1;
    t->fd = pair[0];
    t->attached = 1;
    if (t->queued) stream_write(t);
    if (!t->ended) stream_finish_receiving(t);
    if (!t->ended) stream_interest(t);
    return pair[1];
}

int64_t stream_open(reactor_t *r, uint64_t session, int *fd) {
    if (r->dead) {
        errno = ENOTCONN;
        return -1;
    }
    reactor_lock(r);
    session_t *s = session_find(r, session);
    int64_t id = -1;
    int error = ENOTCONN;
    /* Numbers are used once; when they run out, the session must be opened anew. */
    if (s && !s->close_deadline && !s->go_away_received && s->next_stream < UINT32_MAX - 2) {
        stream_t *t = s->outbound < r->limits.max_streams ? stream_new(s, s->next_stream, 0) : NULL;
        error = EAGAIN;
        if (t && (*fd = stream_attach(t)) < 0) {
            error = errno;
            stream_end(t, END_LOCAL);
        } else if (t) {
            id = t->id;
            s->next_stream += 2;
            send_control(s, YAMUX_WINDOW, FLAG_SYN, t->id, 0);   /* data may follow before its acknowledgement */
            flush_dirty(r);
        }
    }
    reactor_unlock(r);
    errno = error;
    return id;
}

/* Gives a stream `socket` instead of its pair. What the pair's reader has not read yet goes ahead of what is queued;
 * it has been granted to the peer when it left for the pair, and is `prepaid` now that it passes by here again. -1
 * when there is no memory for that. */
static int replace_descriptor(stream_t *t, int pair, int socket) {
    session_t *s = t->session;
    reactor_t *r = s->reactor;
    uint8_t *queue = t->queue, *rest = t->queue + t->queue_offset, buffer[4096];
    size_t queued = t->queued, capacity = t->queue_capacity;
    int flags = fcntl(socket, F_GETFL), failed = flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK);
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
    stream_stop_lingering(t);
    return failed ? -1 : 0;
}

int stream_splice(reactor_t *r, uint64_t session, uint32_t id, int pair, int socket) {
    int done = 0, unread = 0;
    if (!r->dead) {
        reactor_lock(r);
        session_t *s = session_find(r, session);
        stream_t *t = s ? stream_find(s, id) : NULL;
        /* What the user wrote to the pair must leave before what comes through the socket. If the window does not
         * allow all of it, there is no place to keep it. */
        if (t && t->fd >= 0) stream_read(t, 1);
        if (t && !t->ended && (t->send_closed || (!ioctl(t->fd, FIONREAD, &unread) && !unread))) {
            done = 1;
            if (replace_descriptor(t, pair, socket)) {
                stream_reset_crowded(t);
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
        reactor_unlock(r);
    }
    close(pair);
    if (!done) close(socket);
    return done ? 0 : -1;
}

int stream_abort(reactor_t *r, uint64_t session, uint32_t id) {
    if (r->dead) return -1;
    reactor_lock(r);
    session_t *s = session_find(r, session);
    stream_t *t = s ? stream_find(s, id) : NULL;
    if (t) {
        stream_reset(t, END_LOCAL);
        flush_dirty(r);
    }
    reactor_unlock(r);
    return t ? 0 : -1;
}

int reactor_take(reactor_t *r, event_t *out, int max) {
    uint64_t count;
    int n = 0;
    if (r->dead) return 0;
    reactor_lock(r);
    if (r->dead) {
        reactor_unlock(r);
        return 0;
    }
    if (read(r->event_fd, &count, sizeof count) < 0) count = 0;   /* it was not readable: somebody was faster */
    while (n < max && r->backlog_first) {
        stream_t *t = r->backlog_first;
        session_t *s = t->session;
        stream_leave_backlog(t);
        int fd = stream_attach(t);
        if (fd < 0) {             /* descriptors are exhausted: this stream is refused, the session lives on */
            r->counters.streams_refused++;
            stream_reset(t, END_LOCAL);
            continue;
        }
        r->counters.streams_accepted++;
        out[n++] = (event_t){EVENT_STREAM, s->id, t->id, fd, END_NONE};
    }
    while (n < max && r->ended_streams) {
        stream_t *t = r->ended_streams;
        r->ended_streams = t->link;
        out[n++] = (event_t){EVENT_STREAM_ENDED, t->session_id, t->id, -1, t->reason};
        t->link = r->dead_streams;
        r->dead_streams = t;
    }
    while (n < max && r->ended_sessions) {
        session_t *s = r->ended_sessions;
        r->ended_sessions = s->link;
        out[n++] = (event_t){EVENT_SESSION_ENDED, s->id, 0, -1, s->reason};
        s->link = r->dead_sessions;
        r->dead_sessions = s;
    }
    if (r->backlog_first || r->ended_streams || r->ended_sessions) notify(r);
    flush_dirty(r);
    if (!r->running) reap(r);     /* else the I/O thread does, when no event can point there any more */
    reactor_unlock(r);
    return n;
}
