/* From the TCP socket to frames: what is read of a session, what is opened of it, and what the rules of yamux make of
 * that. Payload goes on to the streams, an answer to session_send.h. */
#ifndef MLNET_SESSION_RECEIVE_H
#define MLNET_SESSION_RECEIVE_H

#include "session_send.h"

static stream_t *stream_find(session_t *s, uint32_t id);
static stream_t *stream_new(session_t *s, uint32_t id, int inbound);
static void stream_end(stream_t *t, int reason);
static void stream_deliver(stream_t *t, const uint8_t *data, size_t size);
static void stream_finish_receiving(stream_t *t);
static void flush_streams(reactor_t *r);

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
