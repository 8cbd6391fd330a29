/* Payload of a stream: to its descriptor if the reader keeps up, else into its queue; and the window that is granted
 * to the peer for what has left.
 *
 * Payload is not copied on its way from the opened message to the socket. Vectors collect the pieces of one read,
 * because a peer may send many small frames, and one system call writes them all. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* `size` bytes have left for the reader. The window is granted again in quarters: in smaller parts there would be a
 * frame for each read, in larger ones the peer would run dry while our grant is on its way. A reader that keeps up
 * has its window doubled with each grant, up to its limit: throughput is a window a round trip, and 256 KiB over 100
 * ms are 20 Mbit/s. But the windows of all streams together stay within half of the memory that we may use: what is
 * granted may all come, and no reader may take it. */
static void stream_grant(stream_t *t, size_t size) {
    reactor_t *r = t->session->reactor;
    size_t granted_before = size < t->prepaid ? size : t->prepaid;
    t->prepaid -= (uint32_t)granted_before;
    t->consumed += (uint32_t)(size - granted_before);
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

/* ------------------------------------------------------------------ the queue of a reader that is slow */

void drop_queue(stream_t *t) {
    t->session->queued -= t->queued;
    t->session->reactor->memory -= t->queue_capacity;
    free(t->queue);
    t->queue = NULL;
    t->queued = t->queue_offset = t->queue_capacity = 0;
}

/* Appends to the queue; -1 when memory is exhausted. A session has a share of its own within that of all, so that one
 * peer whose readers are slow cannot crowd out the others. */
int queue_put(stream_t *t, const void *data, size_t size) {
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

/* A stream is reset, not its session: the others' readers may be faster. */
void stream_reset_crowded(stream_t *t) {
    t->session->reactor->counters.streams_crowded++;
    stream_reset(t, END_CROWDED);
}

/* Copies the vectors from `first` on into the queue, because what they point to is overwritten by the next read;
 * `skip` bytes of the first are done with. -1 when the stream had to be reset. */
static int queue_vectors(stream_t *t, int first, size_t skip) {
    int count = t->vector_count;
    t->vector_count = 0;
    for (int i = first; i < count; i++) {
        if (queue_put(t, (uint8_t *)t->vectors[i].iov_base + skip, t->vectors[i].iov_len - skip)) {
            stream_reset_crowded(t);
            return -1;
        }
        skip = 0;
    }
    return 0;
}

/* Passes the peer's FIN on to the reader, once there is nothing left to read before it. */
void stream_finish_receiving(stream_t *t) {
    if (!t->receive_closed || t->finished || t->queued || t->vector_count || t->fd < 0) return;
    t->finished = 1;
    shutdown(t->fd, SHUT_WR);
    stream_end_if_finished(t);
}

/* ------------------------------------------------------------------ to the descriptor */

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

/* Writes as much as the reader takes, keeps the rest, and grants window for what was written: a reader that stops
 * reading stops its peer. A stream that nobody has accepted yet only queues. */
void stream_write(stream_t *t) {
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

/* Payload for a stream: it remains where it is until flush_streams, or until there are too many pieces. */
void stream_deliver(stream_t *t, const uint8_t *data, size_t size) {
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

void flush_streams(reactor_t *r) {
    while (r->flush) {
        stream_t *t = r->flush;
        r->flush = t->flush;
        t->flushing = 0;
        if (!t->ended && t->vector_count) stream_write(t);
    }
}
