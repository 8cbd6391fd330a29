/* A stream and the descriptor behind it: bytes from there into frames, bytes of frames to there. */
#ifndef MLNET_SESSION_STREAM_H
#define MLNET_SESSION_STREAM_H

#include "session_receive.h"

static stream_t *stream_find(session_t *s, uint32_t id) {
    stream_t *t = s->table[(id >> 1) % BUCKETS];
    while (t && t->id != id) t = t->next;
    return t;
}

static stream_t *stream_new(session_t *s, uint32_t id, int inbound) {
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
    s->waiting++;
    t->waiting = 1;
    t->waits_before = r->waits_last;
    *(r->waits_last ? &r->waits_last->waits_after : &r->waits_first) = t;
    r->waits_last = t;
    tell(r);
    return t;
}

/* Takes a stream out of the list of those that wait to be accepted. */
static void stream_stop_waiting(stream_t *t) {
    reactor_t *r = t->session->reactor;
    if (!t->waiting) return;
    t->waiting = 0;
    t->session->waiting--;
    *(t->waits_before ? &t->waits_before->waits_after : &r->waits_first) = t->waits_after;
    *(t->waits_after ? &t->waits_after->waits_before : &r->waits_last) = t->waits_before;
}

static void drop_queue(stream_t *t) {
    t->session->queued -= t->queued;
    t->session->reactor->memory -= t->queue_capacity;
    free(t->queue);
    t->queue = NULL;
    t->queued = t->queue_offset = t->queue_capacity = 0;
}

static void stop_lingering(stream_t *t) {
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

static void stream_end(stream_t *t, int reason) {
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
    stream_stop_waiting(t);
    stop_lingering(t);
    drop_queue(t);
    t->vector_count = 0;
    r->promised -= t->window - INITIAL_WINDOW;
    if (t->fd >= 0) {
        set_interest(r, t, t->fd, &t->interest, 0);
        close(t->fd);
        t->fd = -1;
    }
    t->session = NULL;
    if (t->known) {
        t->link = r->ended_streams;
        r->ended_streams = t;
        tell(r);
    } else {
        t->link = r->dead_streams;
        r->dead_streams = t;
    }
    if (s->said_goodbye && !s->ended && !(s->inbound + s->outbound)) session_end(s, END_GOODBYE);
}

static void stream_reset(stream_t *t, int reason) {
    session_t *s = t->session;
    uint32_t id = t->id;
    stream_end(t, reason);
    send_control(s, YAMUX_WINDOW, FLAG_RST, id, 0);
}

/* Both sides have closed it, and all that came has been delivered. */
static void stream_end_if_finished(stream_t *t) {
    if (!t->ended && t->send_closed && t->finished) stream_end(t, END_FIN);
}

/* Nobody reads the descriptor any more. The peer may not know it yet, and does not learn it if it has nothing to send. */
static void stream_reader_gone(stream_t *t) {
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

/* What epoll is asked. A hang-up is reported whatever is asked, and again and again; edge-triggered, once. */
static void stream_interest(stream_t *t) {
    if (t->ended || t->fd < 0 || t->reader_gone) return;
    uint32_t want = 0;
    if (!t->send_closed && t->send_window > 0 && !t->session->blocked) want |= EPOLLIN;
    if (t->queued) want |= EPOLLOUT;
    set_interest(t->session->reactor, t, t->fd, &t->interest, want ? want : EPOLLET);
}

/* ------------------------------------------------------------------ from the descriptor to the peer */

static int is_hung_up(int fd) {
    struct pollfd p = {.fd = fd, .events = 0};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static void stream_read_end(stream_t *t) {
    t->send_closed = 1;
    if (send_control(t->session, YAMUX_WINDOW, FLAG_FIN, t->id, 0)) return;
    stream_end_if_finished(t);
    if (!t->ended && is_hung_up(t->fd)) stream_reader_gone(t);
}

/* Moves what lies in the descriptor into frames, as far as the window and this turn allow. `last`: also when the TCP
 * socket is full, because nobody will come by again. */
static void stream_read(stream_t *t, int last) {
    session_t *s = t->session;
    reactor_t *r = s->reactor;
    size_t turn = TURN_BYTES;
    while (!t->ended && !t->send_closed && t->send_window > 0 && turn && (last || !s->blocked)) {
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
            if ((size_t)n < room) break;
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

/* ------------------------------------------------------------------ from the peer to the descriptor */

/* `size` bytes have left for the reader. The window is granted again in quarters, and doubles with each of them up to
 * its bound, as long as the windows of all streams together stay within half of the memory that we may use. */
static void stream_grant(stream_t *t, size_t size) {
    reactor_t *r = t->session->reactor;
    size_t free_of_charge = size < t->prepaid ? size : t->prepaid;
    t->prepaid -= (uint32_t)free_of_charge;
    t->consumed += (uint32_t)(size - free_of_charge);
    if (t->receive_closed || t->consumed < t->window / 4) return;
    uint32_t more = t->consumed, growth = 0;
    if (t->window < r->limits.max_window && r->promised + t->window <= r->limits.max_memory / 2) {
        growth = r->limits.max_window - t->window;
        if (growth > t->window) growth = t->window;
    }
    t->window += growth;
    r->promised += growth;
    t->consumed = 0;
    t->receive_window += more + growth;
    send_control(t->session, YAMUX_WINDOW, 0, t->id, more + growth);
}

/* -1: there is no memory for it. */
static int queue_put(stream_t *t, const void *data, size_t size) {
    session_t *s = t->session;
    reactor_t *r = s->reactor;
    if (s->queued + size > r->limits.session_memory) return -1;
    if (t->queue_offset && t->queue_offset + t->queued + size > t->queue_capacity) {
        memmove(t->queue, t->queue + t->queue_offset, t->queued);
        t->queue_offset = 0;
    }
    if (t->queued + size > t->queue_capacity) {
        size_t capacity = t->queue_capacity ? t->queue_capacity : 16384;
        while (capacity < t->queued + size) capacity *= 2;
        size_t more = capacity - t->queue_capacity;
        if (r->memory + more > r->limits.max_memory) return -1;
        uint8_t *bigger = realloc(t->queue, capacity);
        if (!bigger) return -1;
        r->memory += more;
        t->queue = bigger;
        t->queue_capacity = capacity;
    }
    memcpy(t->queue + t->queue_offset + t->queued, data, size);
    t->queued += size;
    s->queued += size;
    return 0;
}

static void stream_crowded(stream_t *t) {
    t->session->reactor->counters.streams_crowded++;
    stream_reset(t, END_CROWDED);
}

/* Keeps the vectors from `first` on, which point into a buffer of the I/O thread; `skip` bytes of it are done with. */
static int queue_vectors(stream_t *t, int first, size_t skip) {
    int count = t->vector_count;
    t->vector_count = 0;
    for (int i = first; i < count; i++) {
        if (queue_put(t, (uint8_t *)t->vectors[i].iov_base + skip, t->vectors[i].iov_len - skip)) {
            stream_crowded(t);
            return -1;
        }
        skip = 0;
    }
    return 0;
}

static void stream_finish_receiving(stream_t *t) {
    if (!t->receive_closed || t->finished || t->queued || t->vector_count || t->fd < 0) return;
    t->finished = 1;
    shutdown(t->fd, SHUT_WR);
    stream_end_if_finished(t);
}

/* One write of what is queued and of what came in this turn: the bytes taken, or -1 when nobody reads. */
static ssize_t write_vectors(stream_t *t, size_t *wanted) {
    struct iovec v[VECTORS + 1];
    int count = 0;
    *wanted = 0;
    if (t->queued) v[count++] = (struct iovec){t->queue + t->queue_offset, t->queued};
    for (int i = 0; i < t->vector_count; i++) v[count++] = t->vectors[i];
    for (int i = 0; i < count; i++) *wanted += v[i].iov_len;
    struct msghdr message = {.msg_iov = v, .msg_iovlen = (size_t)count};
    t->session->reactor->counters.local_writes++;
    for (;;) {
        ssize_t n = sendmsg(t->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) return n;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
        if (errno != EINTR) return -1;
    }
}

static void stream_write(stream_t *t) {
    session_t *s = t->session;
    size_t granted = 0;
    if (t->fd < 0) {
        queue_vectors(t, 0, 0);
        return;
    }
    while (t->queued || t->vector_count) {
        size_t wanted;
        ssize_t n = write_vectors(t, &wanted);
        if (n < 0) {
            t->vector_count = 0;
            stream_reset(t, END_LOCAL);
            return;
        }
        granted += (size_t)n;
        size_t left = (size_t)n, from_queue = left < t->queued ? left : t->queued;
        t->queue_offset += from_queue;
        t->queued -= from_queue;
        s->queued -= from_queue;
        left -= from_queue;
        int i = 0;
        while (i < t->vector_count && left >= t->vectors[i].iov_len) left -= t->vectors[i++].iov_len;
        if ((size_t)n < wanted) {
            if (queue_vectors(t, i, left)) return;
            break;
        }
        t->vector_count = 0;
    }
    if (!t->queued && t->queue) drop_queue(t);
    if (granted) stream_grant(t, granted);
    if (s->ended || t->ended) return;
    stream_finish_receiving(t);
    if (!t->ended) stream_interest(t);
}

/* Payload for a stream: it stays where it is until flush_streams, or until there are too many pieces. */
static void stream_deliver(stream_t *t, const uint8_t *data, size_t size) {
    reactor_t *r = t->session->reactor;
    if (t->reader_gone) {
        stream_reset(t, END_LOCAL);
        return;
    }
    if (t->vector_count == VECTORS) {
        stream_write(t);
        if (t->ended) return;
    }
    t->vectors[t->vector_count++] = (struct iovec){(void *)data, size};
    if (!t->flushing) {
        t->flushing = 1;
        t->flush = r->flush;
        r->flush = t;
    }
}

static void flush_streams(reactor_t *r) {
    while (r->flush) {
        stream_t *t = r->flush;
        r->flush = t->flush;
        t->flushing = 0;
        if (!t->ended && t->vector_count) stream_write(t);
    }
}

#endif
