/* A stream's life, and what its user writes: from the descriptor into frames. deliver.c goes the other way. */
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ------------------------------------------------------------------ life */

/* NULL when memory is exhausted. A stream of the peer's waits in the backlog without a descriptor: a peer that opens
 * streams which nobody accepts costs us no descriptors. */
stream_t *stream_new(session_t *s, uint32_t id, int inbound) {
    reactor_t *r = s->reactor;
    stream_t *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->kind = KIND_STREAM;
    t->id = id;
    t->fd = -1;
    t->session = s;
    t->session_id = s->id;
    t->send_window = t->receive_window = t->window = INITIAL_WINDOW;
    t->inbound = (uint8_t)inbound;
    stream_t **bucket = &s->table[(id >> 1) % BUCKETS];
    t->next = *bucket;
    *bucket = t;
    if (!inbound) {
        s->outbound++;
        r->counters.streams_opened++;
        return t;
    }
    s->inbound++;
    s->backlog++;
    t->in_backlog = 1;
    t->backlog_before = r->backlog_last;
    *(r->backlog_last ? &r->backlog_last->backlog_after : &r->backlog_first) = t;
    r->backlog_last = t;
    notify(r);
    return t;
}

/* Takes a stream out of the list of those that wait to be accepted, if it is there. */
void stream_leave_backlog(stream_t *t) {
    reactor_t *r = t->session->reactor;
    if (!t->in_backlog) return;
    t->in_backlog = 0;
    t->session->backlog--;
    *(t->backlog_before ? &t->backlog_before->backlog_after : &r->backlog_first) = t->backlog_after;
    *(t->backlog_after ? &t->backlog_after->backlog_before : &r->backlog_last) = t->backlog_before;
}

/* Few linger at a time, so that a list with links in one direction does. */
void stream_stop_lingering(stream_t *t) {
    reactor_t *r = t->session->reactor;
    if (!t->lingering) return;
    stream_t **at = &r->linger_first, *before = NULL;
    while (*at != t) {
        before = *at;
        at = &before->linger;
    }
    *at = t->linger;
    if (r->linger_last == t) r->linger_last = before;
    t->lingering = 0;
}

/* Ends a stream without a word to the peer, and its session with it if that was the last one after a Go Away. */
void stream_end(stream_t *t, int reason) {
    session_t *s = t->session;
    reactor_t *r = s->reactor;
    if (t->ended) return;
    t->ended = 1;
    t->reason = (uint8_t)reason;
    stream_t **at = &s->table[(t->id >> 1) % BUCKETS];
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    *(t->inbound ? &s->inbound : &s->outbound) -= 1;
    if (s->current == t) s->current = NULL;
    stream_leave_backlog(t);
    stream_stop_lingering(t);
    drop_queue(t);
    t->vector_count = 0;
    r->promised -= t->window - INITIAL_WINDOW;
    if (t->fd >= 0) {
        set_interest(r, t, t->fd, &t->interest, 0);
        close(t->fd);
        t->fd = -1;
    }
    t->session = NULL;
    if (t->attached) {
        t->link = r->ended_streams;
        r->ended_streams = t;
        notify(r);
    } else {
        t->link = r->dead_streams;
        r->dead_streams = t;
    }
    if (s->go_away_received && !s->ended && !(s->inbound + s->outbound)) session_end(s, END_GO_AWAY);
}

/* Ends a stream, and says so to the peer. */
void stream_reset(stream_t *t, int reason) {
    session_t *s = t->session;
    uint32_t id = t->id;
    stream_end(t, reason);
    send_control(s, YAMUX_WINDOW, FLAG_RST, id, 0);
}

/* Ends a stream that both sides have closed, once all that came has been delivered. */
void stream_end_if_finished(stream_t *t) {
    if (!t->ended && t->send_closed && t->finished) stream_end(t, END_FIN);
}

/* Nobody reads the descriptor any more. If something is queued, it is lost, and the peer must know: a reset. If not,
 * the peer may just be about to close its side: the stream is reset when it sends data instead, or after LINGER. */
void stream_reader_gone(stream_t *t) {
    reactor_t *r = t->session->reactor;
    if (t->reader_gone) return;
    t->reader_gone = 1;
    set_interest(r, t, t->fd, &t->interest, 0);
    if (t->queued) {
        stream_reset(t, END_LOCAL);
        return;
    }
    t->lingering = 1;
    t->linger = NULL;
    t->linger_until = now_ns() + LINGER;
    *(r->linger_last ? &r->linger_last->linger : &r->linger_first) = t;
    r->linger_last = t;
}

/* Asks epoll for what can be used. Not for input without a send window or while TCP is full: then the user's writes
 * fill the socket and block, which is the backpressure. A hang-up is reported whatever is asked, and again and again;
 * with EPOLLET, once. */
void stream_interest(stream_t *t) {
    if (t->ended || t->fd < 0 || t->reader_gone) return;
    uint32_t want = 0;
    if (!t->send_closed && t->send_window > 0 && !t->session->blocked) want |= EPOLLIN;
    if (t->queued) want |= EPOLLOUT;
    set_interest(t->session->reactor, t, t->fd, &t->interest, want ? want : EPOLLET);
}

/* ------------------------------------------------------------------ from the descriptor to the peer */

/* Whether the user has closed its end, beyond having shut its writing side down. */
static int is_hung_up(int fd) {
    struct pollfd p = {.fd = fd, .events = 0};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

/* End of file: yamux closes one direction by FIN. */
static void stream_read_end(stream_t *t) {
    t->send_closed = 1;
    if (send_control(t->session, YAMUX_WINDOW, FLAG_FIN, t->id, 0)) return;
    stream_end_if_finished(t);
    if (!t->ended && is_hung_up(t->fd)) stream_reader_gone(t);
}

/* Moves what lies in the descriptor into frames, as far as the window and this turn allow. `last`: also when the TCP
 * socket is full, because nobody will come by again. The bytes are read to where they will be sealed from, behind
 * room for a header whose length is known only afterwards. */
void stream_read(stream_t *t, int last) {
    session_t *s = t->session;
    reactor_t *r = s->reactor;
    size_t turn = TURN_BYTES;
    while (!t->ended && !t->send_closed && t->send_window > 0 && turn && (last || !s->blocked)) {
        /* Not into the last KiB of a message: that would be a system call for a scrap. */
        if (s->plain && PLAIN_MAX - s->plain_size < 1024 && seal_plain(s, 0)) break;
        uint8_t *p = plain_room(s, HEADER_BYTES + 1, 0);
        if (!p) break;
        size_t room = PLAIN_MAX - s->plain_size - HEADER_BYTES;
        if ((int64_t)room > t->send_window) room = (size_t)t->send_window;
        ssize_t n = read(t->fd, p + HEADER_BYTES, room);
        r->counters.local_reads++;
        if (n > 0) {
            put_header(p, YAMUX_DATA, 0, t->id, (uint32_t)n);
            s->plain_size += HEADER_BYTES + (size_t)n;
            t->send_window -= n;
            mark_dirty(s);
            turn = (size_t)n > turn ? 0 : turn - (size_t)n;
            if ((size_t)n < room) break;   /* the socket is empty: another read would only say so */
        } else if (n == 0) {
            stream_read_end(t);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            stream_reset(t, END_LOCAL);
        }
    }
    if (!s->ended) drop_plain(s);
    if (!t->ended) stream_interest(t);
}
