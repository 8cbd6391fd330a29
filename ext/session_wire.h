/* From plaintext frames to the TCP socket and back: sealing, writing, opening, and the rules of yamux. */
#ifndef MLNET_SESSION_WIRE_H
#define MLNET_SESSION_WIRE_H

#include "session_state.h"

static void session_end(session_t *s, int reason);
static stream_t *stream_find(session_t *s, uint32_t id);
static stream_t *stream_new(session_t *s, uint32_t id, int inbound);
static void stream_end(stream_t *t, int reason);
static void stream_interest(stream_t *t);
static void stream_deliver(stream_t *t, const uint8_t *data, size_t size);
static void stream_finish_receiving(stream_t *t);
static void flush_streams(reactor_t *r);

/* ------------------------------------------------------------------ out */

static void mark_dirty(session_t *s) {
    if (s->dirty || s->ended) return;
    s->dirty = 1;
    s->dirty_next = s->reactor->dirty;
    s->reactor->dirty = s;
}

/* How much of what may be sealed: less for each session when memory is short. The last message of it is kept for frames
 * without payload: these must find room when TCP is blocked, or traffic in both directions would look like a flood. */
static size_t sealed_capacity(const reactor_t *r) {
    int messages = r->memory < r->limits.max_memory / 2 ? SEALED_MESSAGES : 1;
    return (size_t)(messages + 1) * SEALED_MAX;
}

static void drop_sealed(session_t *s) {
    reactor_t *r = s->reactor;
    if (!s->sealed) return;
    if (s->sealed_capacity == (size_t)(SEALED_MESSAGES + 1) * SEALED_MAX) {
        give_block(r, &r->sealed_pool, s->sealed, s->sealed_capacity);
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
        s->sealed = take_block(r, &r->sealed_pool, capacity);
    } else if ((s->sealed = malloc(capacity))) {
        r->memory += capacity;
    }
    if (!s->sealed) return -1;
    s->sealed_capacity = capacity;
    s->sealed_offset = s->sealed_size = 0;
    return 0;
}

static void drop_plain(session_t *s) {
    if (s->plain && !s->plain_size) {
        give_block(s->reactor, &s->reactor->plain_pool, s->plain, PLAIN_MAX + 1);
        s->plain = NULL;
    }
}

/* Writes what is sealed: 0 all of it, 1 the socket is full, -1 the session is over. */
static int write_sealed(session_t *s) {
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
    if (s->closing && !s->farewell && !s->plain_size) {
        s->farewell = 1;
        shutdown(s->fd, SHUT_WR);
    }
    return 0;
}

/* Seals the frames that are ready: 0 done, 1 there is no room, -1 the session is over. `control` may use the message
 * that is kept for frames without payload. */
static int seal_plain(session_t *s, int control) {
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

/* Room for `size` more bytes of plaintext, or NULL. */
static uint8_t *plain_room(session_t *s, size_t size, int control) {
    if (!s->plain && !(s->plain = take_block(s->reactor, &s->reactor->plain_pool, PLAIN_MAX + 1))) {
        session_end(s, END_ERROR);
        return NULL;
    }
    if (s->plain_size + size > PLAIN_MAX && seal_plain(s, control)) return NULL;
    return s->plain + s->plain_size;
}

/* Queues a frame without payload. A peer that does not read while we owe it more than a message of these is cut. */
static int send_control(session_t *s, int type, int flags, uint32_t stream, uint32_t length) {
    if (s->ended || s->farewell) return -1;
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

static void flush_dirty(reactor_t *r) {
    while (r->dirty) {
        session_t *s = r->dirty;
        r->dirty = s->dirty_next;
        flush_session(s);
    }
}

/* The socket takes bytes again. */
static void session_unblock(session_t *s) {
    if (write_sealed(s)) return;
    s->blocked = 0;
    set_interest(s->reactor, s, s->fd, &s->interest, s->paused ? 0 : EPOLLIN);
    for (int i = 0; i < BUCKETS; i++)
        for (stream_t *t = s->table[i]; t; t = t->next) stream_interest(t);
    mark_dirty(s);
}

/* ------------------------------------------------------------------ in */

/* Charges the peer for something of no use; whether the session goes on. */
static int waste(session_t *s, int64_t amount) {
    if (take_tokens(&s->waste, &s->waste_at, WASTE_A_SECOND, WASTE_BURST, amount, now_ns())) return 1;
    session_end(s, END_FLOOD);
    return 0;
}

static void take_ping(session_t *s, int flags, uint32_t number) {
    if (flags & FLAG_SYN) {
        if (waste(s, 1)) send_control(s, YAMUX_PING, FLAG_ACK, 0, number);
    } else if ((flags & FLAG_ACK) && s->pinged && number == s->ping_number) {
        s->round_trip = now_ns() - s->pinged;
        s->pinged = 0;
    }
}

/* A new stream of the peer's; NULL when it is refused or the session is over. */
static stream_t *take_syn(session_t *s, uint32_t id) {
    reactor_t *r = s->reactor;
    int ours = (id & 1) == (s->initiator ? 1u : 0u);
    if (!id || ours || stream_find(s, id)) {
        session_end(s, END_PROTOCOL);
        return NULL;
    }
    if (!waste(s, 1)) return NULL;
    stream_t *t = NULL;
    if (!s->closing && s->inbound < r->limits.max_streams && s->waiting < UNACCEPTED_MAX) t = stream_new(s, id, 1);
    if (!t) {
        r->counters.streams_refused++;
        send_control(s, YAMUX_WINDOW, FLAG_RST, id, 0);
        return NULL;
    }
    send_control(s, YAMUX_WINDOW, FLAG_ACK, id, 0);
    return s->ended ? NULL : t;
}

static void take_window(session_t *s, stream_t *t, uint32_t more) {
    int was_closed = t->send_window <= 0;
    t->send_window += more;
    if (t->send_window > UINT32_MAX) session_end(s, END_PROTOCOL);
    else if (was_closed && more) stream_interest(t);
}

static void take_fin(stream_t *t) {
    t->receive_closed = 1;
    stream_finish_receiving(t);
}

static void take_data(session_t *s, stream_t *t, int flags, uint32_t length) {
    if (t) {
        if (length && (t->receive_closed || (int64_t)length > t->receive_window)) {
            session_end(s, END_PROTOCOL);
            return;
        }
        t->receive_window -= length;
    } else if (!(flags & FLAG_RST) && !waste(s, 1 + length / WASTE_BYTES)) {
        return;
    }
    s->payload_left = length;
    s->payload_flags = (uint8_t)flags;
    s->current = t;
}

/* The flags that close come into force after the payload. */
static void end_payload(session_t *s) {
    stream_t *t = s->current;
    int flags = s->payload_flags;
    s->current = NULL;
    s->payload_flags = 0;
    if (!t) return;
    if (flags & FLAG_RST) stream_end(t, END_RESET);
    else if ((flags & FLAG_FIN) && !t->receive_closed) take_fin(t);
}

static void take_header(session_t *s) {
    const uint8_t *h = s->header;
    int type = h[1], flags = h[2] << 8 | h[3];
    uint32_t id = get32(h + 4), length = get32(h + 8);
    if (h[0] || type > YAMUX_GO_AWAY || flags > 15) {
        session_end(s, END_PROTOCOL);
        return;
    }
    if (type == YAMUX_PING) {
        take_ping(s, flags, length);
        return;
    }
    if (type == YAMUX_GO_AWAY) {
        s->said_goodbye = 1;
        if (length || !(s->inbound + s->outbound)) session_end(s, s->closing ? END_LOCAL : END_GOODBYE);
        return;
    }
    stream_t *t = NULL;
    if (flags & FLAG_SYN) {
        t = take_syn(s, id);
        if (s->ended) return;
    } else {
        t = stream_find(s, id);
    }
    if (type == YAMUX_DATA) {
        take_data(s, t, flags, length);
        if (!s->ended && !s->payload_left) end_payload(s);
        return;
    }
    if (!t) {
        /* Window updates of streams that we have just ended are usual, and a reset is owed no answer. */
        waste(s, 1);
        return;
    }
    /* With a reset it is no increment but an error code. */
    if (length && !(flags & FLAG_RST)) take_window(s, t, length);
    if (s->ended) return;
    if (flags & FLAG_RST) stream_end(t, END_RESET);
    else if ((flags & FLAG_FIN) && !t->receive_closed) take_fin(t);
}

/* Takes plaintext; `data` must stay as it is until flush_streams. */
static void take_plain(session_t *s, const uint8_t *data, size_t size) {
    while (size && !s->ended) {
        if (s->payload_left) {
            size_t n = size < s->payload_left ? size : s->payload_left;
            if (s->current) stream_deliver(s->current, data, n);
            data += n;
            size -= n;
            if (s->ended) return;
            s->payload_left -= (uint32_t)n;
            if (!s->payload_left) end_payload(s);
            continue;
        }
        size_t n = HEADER_BYTES - (size_t)s->header_size;
        if (n > size) n = size;
        memcpy(s->header + s->header_size, data, n);
        s->header_size += (int)n;
        data += n;
        size -= n;
        if (s->header_size == HEADER_BYTES) {
            s->header_size = 0;
            take_header(s);
        }
    }
}

/* Keeps an incomplete message until the rest of it comes. */
static int keep_part(session_t *s, const uint8_t *data, size_t size) {
    reactor_t *r = s->reactor;
    if (!size) {
        r->memory -= s->part_capacity;
        free(s->part);
        s->part = NULL;
        s->part_size = s->part_capacity = 0;
        return 0;
    }
    size_t capacity = size < 2 ? 2 : 2 + ((size_t)data[0] << 8 | data[1]);
    if (capacity > s->part_capacity) {
        uint8_t *bigger = realloc(s->part, capacity);
        if (!bigger) return -1;
        r->memory += capacity - s->part_capacity;
        s->part = bigger;
        s->part_capacity = capacity;
    }
    memcpy(s->part, data, size);
    s->part_size = size;
    return 0;
}

/* Takes what lies in r->input: noise messages, the last of them perhaps incomplete. */
static void take_input(session_t *s, size_t size) {
    reactor_t *r = s->reactor;
    size_t at = 0, plain = 0;
    while (size - at >= 2) {
        size_t length = (size_t)r->input[at] << 8 | r->input[at + 1];
        if (size - at - 2 < length) break;
        if (cipher_open(&r->engine, &s->open, r->opened + plain, r->input + at + 2, (int)length)) {
            session_end(s, END_CRYPTO);
            return;
        }
        r->counters.messages_in++;
        plain += length - TAG_BYTES;
        at += 2 + length;
    }
    take_plain(s, r->opened, plain);
    flush_streams(r);             /* their vectors point into r->opened */
    if (!s->ended && keep_part(s, r->input + at, size - at)) session_end(s, END_ERROR);
}

/* With a limit on bytes, a session that has used up its share is not read until it has some again. */
static void charge_bytes(session_t *s, size_t size) {
    reactor_t *r = s->reactor;
    int64_t rate = (int64_t)r->limits.bytes_per_second;
    if (!rate || take_tokens(&s->budget, &s->budget_at, rate, rate, (int64_t)size, now_ns())) return;
    s->paused = 1;
    r->busy_count++;
    set_interest(r, s, s->fd, &s->interest, s->blocked ? EPOLLOUT : 0);
}

static void session_read(session_t *s) {
    reactor_t *r = s->reactor;
    for (int i = 0; i < READS_A_TURN && !s->ended && !s->paused; i++) {
        if (s->part_size) memcpy(r->input, s->part, s->part_size);
        ssize_t n = recv(s->fd, r->input + s->part_size, READ_BYTES, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK) session_end(s, s->closing ? END_LOCAL : END_ERROR);
            return;
        }
        if (n == 0) {
            session_end(s, s->closing ? END_LOCAL : s->said_goodbye ? END_GOODBYE : END_EOF);
            return;
        }
        r->counters.tcp_reads++;
        r->counters.bytes_in += (uint64_t)n;
        s->heard = now_ns();
        if (s->closing) {
            if (n < READ_BYTES) return;
            continue;
        }
        charge_bytes(s, (size_t)n);
        take_input(s, s->part_size + (size_t)n);
        if (n < READ_BYTES) return;
    }
}

#endif
