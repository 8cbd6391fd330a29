/* From frames to the TCP socket: frames gather in `plain`, are sealed into `sealed` when that is full or the turn
 * ends, and are written from there. A message is large when there is much to say: sealing and a system call cost the
 * same for few bytes as for many. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* ------------------------------------------------------------------ buffers */

/* How many bytes may be sealed: fewer for each session when memory runs short. The last message of them is kept for
 * frames without payload: these must find room when TCP is blocked, or traffic in both directions would look like a
 * flood. */
static size_t sealed_capacity(const reactor_t *r) {
    int messages = r->memory < r->limits.max_memory / 2 ? SEALED_MESSAGES : 1;
    return (size_t)(messages + 1) * SEALED_MAX;
}

void drop_sealed(session_t *s) {
    reactor_t *r = s->reactor;
    if (!s->sealed) return;
    if (s->sealed_capacity == (size_t)(SEALED_MESSAGES + 1) * SEALED_MAX) {
        pool_give(r, &r->sealed_pool, s->sealed, s->sealed_capacity);
    } else {
        r->memory -= s->sealed_capacity;
        free(s->sealed);
    }
    s->sealed = NULL;
    s->sealed_offset = s->sealed_size = s->sealed_capacity = 0;
}

static int need_sealed(session_t *s) {
    reactor_t *r = s->reactor;
    if (s->sealed) return 0;
    size_t capacity = sealed_capacity(r);
    if (capacity == (size_t)(SEALED_MESSAGES + 1) * SEALED_MAX) {
        s->sealed = pool_take(r, &r->sealed_pool, capacity);
    } else if ((s->sealed = malloc(capacity))) {
        r->memory += capacity;
    }
    if (!s->sealed) return -1;
    s->sealed_capacity = capacity;
    s->sealed_offset = s->sealed_size = 0;
    return 0;
}

void drop_plain(session_t *s) {
    if (s->plain && !s->plain_size) {
        pool_give(s->reactor, &s->reactor->plain_pool, s->plain, PLAIN_MAX + 1);
        s->plain = NULL;
    }
}

/* ------------------------------------------------------------------ writing and sealing */

/* Writes what is sealed: 0 all of it, 1 the socket is full, -1 the session has ended. A session that closes shuts its
 * side down after the last byte: a close with unread input would send a TCP reset, which may overtake our Go Away. */
int write_sealed(session_t *s) {
    reactor_t *r = s->reactor;
    while (s->sealed_offset < s->sealed_size) {
        ssize_t n = send(s->fd, s->sealed + s->sealed_offset, s->sealed_size - s->sealed_offset, MSG_NOSIGNAL);
        if (n > 0) {
            s->sealed_offset += (size_t)n;
            r->counters.tcp_writes++;
            r->counters.bytes_out += (uint64_t)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            s->blocked = 1;
            set_interest(r, s, s->fd, &s->interest, (s->paused ? 0 : EPOLLIN) | EPOLLOUT);
            return 1;
        } else {
            session_end(s, END_ERROR);
            return -1;
        }
    }
    drop_sealed(s);
    if (s->close_deadline && !s->shut_down && !s->plain_size) {
        s->shut_down = 1;
        shutdown(s->fd, SHUT_WR);
    }
    return 0;
}

/* Seals the frames that are ready into one message: 0 done, 1 there is no room, -1 the session has ended. `control`
 * may use the message that is kept for frames without payload. */
int seal_plain(session_t *s, int control) {
    if (!s->plain_size) return 0;
    if (need_sealed(s)) {
        session_end(s, END_ERROR);
        return -1;
    }
    size_t wanted = s->plain_size + TAG_BYTES + 2, capacity = s->sealed_capacity - (control ? 0 : SEALED_MAX);
    if (s->sealed_size + wanted > capacity && s->sealed_offset) {
        memmove(s->sealed, s->sealed + s->sealed_offset, s->sealed_size - s->sealed_offset);
        s->sealed_size -= s->sealed_offset;
        s->sealed_offset = 0;
    }
    if (s->sealed_size + wanted > capacity) {
        if (s->blocked) return 1;
        int rc = write_sealed(s);
        if (rc) return rc;
        if (need_sealed(s)) {
            session_end(s, END_ERROR);
            return -1;
        }
    }
    uint8_t *out = s->sealed + s->sealed_size;
    size_t size = s->plain_size + TAG_BYTES;
    out[0] = (uint8_t)(size >> 8);
    out[1] = (uint8_t)size;
    if (cipher_seal(&s->reactor->engine, &s->seal, out + 2, s->plain, (int)s->plain_size)) {
        session_end(s, END_CRYPTO);
        return -1;
    }
    s->sealed_size += size + 2;
    s->plain_size = 0;
    s->reactor->counters.messages_out++;
    return 0;
}

/* Room for `size` more bytes of plaintext. NULL when there is none: the socket is full, or the session has ended. */
uint8_t *plain_room(session_t *s, size_t size, int control) {
    if (!s->plain && !(s->plain = pool_take(s->reactor, &s->reactor->plain_pool, PLAIN_MAX + 1))) {
        session_end(s, END_ERROR);
        return NULL;
    }
    if (s->plain_size + size > PLAIN_MAX && seal_plain(s, control)) return NULL;
    return s->plain + s->plain_size;
}

/* Queues a frame without payload; -1 when the session has ended. A peer that does not read while we owe it more than
 * a message of these is cut off: otherwise it could grow our queue without sending a byte of data. */
int send_control(session_t *s, int type, int flags, uint32_t stream, uint32_t length) {
    if (s->ended || s->shut_down) return -1;
    uint8_t *p = plain_room(s, HEADER_BYTES, 1);
    if (!p) {
        if (!s->ended) session_end(s, END_FLOOD);
        return -1;
    }
    put_header(p, type, flags, stream, length);
    s->plain_size += HEADER_BYTES;
    mark_dirty(s);
    return 0;
}

static void flush_session(session_t *s) {
    s->dirty = 0;
    if (s->ended || seal_plain(s, 0) < 0) return;
    drop_plain(s);
    if (s->sealed_size > s->sealed_offset && !s->blocked) write_sealed(s);
}

void flush_dirty(reactor_t *r) {
    while (r->dirty) {
        session_t *s = r->dirty;
        r->dirty = s->dirty_next;
        flush_session(s);
    }
}

/* The socket takes bytes again: so do the session's streams. */
void session_unblock(session_t *s) {
    if (write_sealed(s)) return;
    s->blocked = 0;
    set_interest(s->reactor, s, s->fd, &s->interest, s->paused ? 0 : EPOLLIN);
    for (int i = 0; i < BUCKETS; i++)
        for (stream_t *t = s->table[i]; t; t = t->next) stream_interest(t);
    mark_dirty(s);
}
