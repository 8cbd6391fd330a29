/* From the TCP socket to frames: what is read of a session, what is opened of it, and what yamux makes of that.
 * Payload goes on to deliver.c, an answer to send.c.
 *
 * All of it was written by a peer, of whom no more is known than its key. A frame that violates yamux ends the
 * session, for what follows could not be told apart; one that merely wastes our time costs tokens. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* ------------------------------------------------------------------ frames */

/* Charges the peer for a frame that moves no data; whether the session goes on. */
static int charge_waste(session_t *s, int64_t amount) {
    if (take_tokens(&s->waste_tokens, &s->waste_refilled, WASTE_A_SECOND, WASTE_BURST, amount, now_ns())) return 1;
    session_end(s, END_FLOOD);
    return 0;
}

/* yamux, "Length Field": the number is opaque and comes back. An answer that nobody asked for changes nothing. */
static void handle_ping(session_t *s, int flags, uint32_t number) {
    if (flags & FLAG_SYN) {
        if (charge_waste(s, 1)) send_control(s, YAMUX_PING, FLAG_ACK, 0, number);
    } else if ((flags & FLAG_ACK) && s->ping_sent && number == s->ping_number) {
        s->round_trip = now_ns() - s->ping_sent;
        s->ping_sent = 0;
    }
}

/* Opens a stream of the peer's: NULL when it is refused or the session has ended. The number must be of the peer's
 * parity, and not in use: otherwise both sides would mean different streams by it. */
static stream_t *accept_syn(session_t *s, uint32_t id) {
    reactor_t *r = s->reactor;
    int ours = (id & 1) == (s->initiator ? 1u : 0u);
    if (!id || ours || stream_find(s, id)) {
        session_end(s, END_PROTOCOL);
        return NULL;
    }
    if (!charge_waste(s, 1)) return NULL;
    stream_t *t = NULL;
    if (!s->close_deadline && s->inbound < r->limits.max_streams && s->backlog < BACKLOG_MAX) t = stream_new(s, id, 1);
    if (!t) {
        r->counters.streams_refused++;
        send_control(s, YAMUX_WINDOW, FLAG_RST, id, 0);
        return NULL;
    }
    send_control(s, YAMUX_WINDOW, FLAG_ACK, id, 0);   /* at once: some peers let only so many be unacknowledged */
    return s->ended ? NULL : t;
}

/* The sum is bounded: a window of 64 bits that a peer raises for ever would overflow in the end. */
static void handle_window_update(session_t *s, stream_t *t, uint32_t more) {
    int was_closed = t->send_window <= 0;
    t->send_window += more;
    if (t->send_window > UINT32_MAX) session_end(s, END_PROTOCOL);
    else if (was_closed && more) stream_interest(t);
}

static void handle_fin(stream_t *t) {
    t->receive_closed = 1;
    stream_finish_receiving(t);
}

/* yamux, "Flow Control": more than the window is a violation, and the window is all that bounds what a peer may have
 * us keep. Payload of a stream that is gone is usual after a reset; it is skipped, and charged for by its length. */
static void handle_data(session_t *s, stream_t *t, int flags, uint32_t length) {
    if (t) {
        if (length && (t->receive_closed || (int64_t)length > t->receive_window)) {
            session_end(s, END_PROTOCOL);
            return;
        }
        t->receive_window -= length;
    } else if (!(flags & FLAG_RST) && !charge_waste(s, 1 + length / WASTE_BYTES)) {
        return;
    }
    s->payload_left = length;
    s->payload_flags = (uint8_t)flags;
    s->current = t;
}

/* FIN and RST of a data frame come into force after its payload. */
static void finish_payload(session_t *s) {
    stream_t *t = s->current;
    int flags = s->payload_flags;
    s->current = NULL;
    s->payload_flags = 0;
    if (!t) return;
    if (flags & FLAG_RST) stream_end(t, END_RESET);
    else if ((flags & FLAG_FIN) && !t->receive_closed) handle_fin(t);
}

static void handle_header(session_t *s) {
    const uint8_t *h = s->header;
    int type = h[1], flags = h[2] << 8 | h[3];
    uint32_t id = get32(h + 4), length = get32(h + 8);
    if (h[0] || type > YAMUX_GO_AWAY || flags > (FLAG_SYN | FLAG_ACK | FLAG_FIN | FLAG_RST)) {
        session_end(s, END_PROTOCOL);
        return;
    }
    if (type == YAMUX_PING) {
        handle_ping(s, flags, length);
        return;
    }
    if (type == YAMUX_GO_AWAY) {
        /* Streams that are open may finish after a normal termination; after an error nothing is to be expected. */
        s->go_away_received = 1;
        if (length || !(s->inbound + s->outbound)) session_end(s, s->close_deadline ? END_LOCAL : END_GO_AWAY);
        return;
    }
    stream_t *t = NULL;
    if (flags & FLAG_SYN) {
        t = accept_syn(s, id);
        if (s->ended) return;
    } else {
        t = stream_find(s, id);
    }
    if (type == YAMUX_DATA) {
        handle_data(s, t, flags, length);
        if (!s->ended && !s->payload_left) finish_payload(s);
        return;
    }
    if (!t) {
        /* Window updates of streams that we have just ended are usual, and a reset needs no answer. */
        charge_waste(s, 1);
        return;
    }
    /* With a reset it is not an increment: go-libp2p puts an error code there. */
    if (length && !(flags & FLAG_RST)) handle_window_update(s, t, length);
    if (s->ended) return;
    if (flags & FLAG_RST) stream_end(t, END_RESET);
    else if ((flags & FLAG_FIN) && !t->receive_closed) handle_fin(t);
}

/* Takes plaintext. Frames need not begin or end with a message. `data` must remain as it is until flush_streams,
 * because payload is not copied. */
void parse_frames(session_t *s, const uint8_t *data, size_t size) {
    while (size && !s->ended) {
        if (s->payload_left) {
            size_t n = size < s->payload_left ? size : s->payload_left;
            if (s->current) stream_deliver(s->current, data, n);
            data += n;
            size -= n;
            if (s->ended) return;
            s->payload_left -= (uint32_t)n;
            if (!s->payload_left) finish_payload(s);
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
            handle_header(s);
        }
    }
}

/* ------------------------------------------------------------------ messages */

/* Keeps an incomplete message until the rest of it comes; -1 when memory is exhausted. It takes as much memory as the
 * message announces, which is at most SEALED_MAX; nothing when no byte is kept, so that idle sessions have no
 * buffer. */
int keep_partial(session_t *s, const uint8_t *data, size_t size) {
    reactor_t *r = s->reactor;
    if (!size) {
        r->memory -= s->partial_capacity;
        free(s->partial);
        s->partial = NULL;
        s->partial_size = s->partial_capacity = 0;
        return 0;
    }
    size_t capacity = size < 2 ? 2 : 2 + ((size_t)data[0] << 8 | data[1]);
    if (capacity > s->partial_capacity) {
        uint8_t *bigger = realloc(s->partial, capacity);
        if (!bigger) return -1;
        r->memory += capacity - s->partial_capacity;
        s->partial = bigger;
        s->partial_capacity = capacity;
    }
    memcpy(s->partial, data, size);
    s->partial_size = size;
    return 0;
}

/* Takes what lies in r->input: noise messages, the last of them perhaps incomplete. All are opened before frames are
 * parsed, so that payload for one stream goes out in one write. A message that does not authenticate ends the session
 * at once: its nonce is used up, and what follows would not open either. */
static void open_messages(session_t *s, size_t size) {
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
        plain += length - TAG_BYTES;   /* cipher_open refuses what is shorter than a tag */
        at += 2 + length;
    }
    parse_frames(s, r->opened, plain);
    flush_streams(r);             /* their vectors point into r->opened */
    if (!s->ended && keep_partial(s, r->input + at, size - at)) session_end(s, END_ERROR);
}

/* With a limit on bytes, a session that has used up its share is not read until it has some again: TCP's own flow
 * control then slows the peer down, and nothing is lost. */
static void charge_read(session_t *s, size_t size) {
    reactor_t *r = s->reactor;
    int64_t rate = (int64_t)r->limits.bytes_per_second;
    if (!rate || take_tokens(&s->read_tokens, &s->read_refilled, rate, rate, (int64_t)size, now_ns())) return;
    s->paused = 1;
    r->fast_ticking++;
    set_interest(r, s, s->fd, &s->interest, s->blocked ? EPOLLOUT : 0);
}

void session_read(session_t *s) {
    reactor_t *r = s->reactor;
    for (int i = 0; i < READS_A_TURN && !s->ended && !s->paused; i++) {
        if (s->partial_size) memcpy(r->input, s->partial, s->partial_size);
        ssize_t n = recv(s->fd, r->input + s->partial_size, READ_BYTES, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK) session_end(s, s->close_deadline ? END_LOCAL : END_ERROR);
            return;
        }
        if (n == 0) {
            session_end(s, s->close_deadline ? END_LOCAL : s->go_away_received ? END_GO_AWAY : END_EOF);
            return;
        }
        r->counters.tcp_reads++;
        r->counters.bytes_in += (uint64_t)n;
        s->last_received = now_ns();
        if (s->close_deadline) {  /* we only wait for its end of file */
            if (n < READ_BYTES) return;
            continue;
        }
        charge_read(s, (size_t)n);
        open_messages(s, s->partial_size + (size_t)n);
        if (n < READ_BYTES) return;   /* the socket is empty: another read would only say so */
    }
}
