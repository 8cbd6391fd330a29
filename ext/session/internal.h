/* What a reactor, a session and a stream are, and what the files of this component need of each other.
 *
 *   calls.c    what users ask for, under the lock
 *   reactor.c  the I/O thread: epoll, time, fork
 *   receive.c  TCP socket -> noise messages -> frames
 *   deliver.c  frames' payload -> the stream's descriptor, and the window that is granted for it
 *   stream.c   a stream's life, and its descriptor -> frames
 *   send.c     frames -> noise messages -> TCP socket
 *   state.c    a session's life, memory, epoll interest, token buckets
 *   aead.c     ChaCha20-Poly1305
 *
 * Locking. One mutex of a reactor guards all of it. The I/O thread holds it while it works on a batch of events, but
 * not while it sleeps; every call from outside holds it. The order is: `stopping`, the list of all reactors,
 * `turnstile`, `mutex`. Read without it are `stop` and `dead`, which are atomic, and the counters.
 *
 * Lifetime. The events of one epoll_wait point to streams and sessions that an earlier event of the batch may end. So
 * what ends is taken out of every list and table at once, but only freed by reap(), after the batch. Whatever
 * sends, receives or writes may end the stream and the session: callers look at `ended` afterwards. */
#ifndef MLNET_SESSION_INTERNAL_H
#define MLNET_SESSION_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE               /* explicit_bzero, pthread_setname_np */
#endif

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "session.h"

enum { TAG_BYTES = 16, KEY_BYTES = 32 };

/* yamux, "Framing": the types and flags of a frame, the size of its header, and the receive window with which every
 * stream begins. That size is part of the protocol: a peer sends so much before it hears from us. */
enum { YAMUX_DATA, YAMUX_WINDOW, YAMUX_PING, YAMUX_GO_AWAY };
enum { FLAG_SYN = 1, FLAG_ACK = 2, FLAG_FIN = 4, FLAG_RST = 8 };
enum { HEADER_BYTES = 12, INITIAL_WINDOW = 256 * 1024 };

/* framing: two bytes of length, big endian; noise, section 3: at most 65535 bytes of ciphertext, the tag included. */
enum { NOISE_MAX = 65535, PLAIN_MAX = NOISE_MAX - TAG_BYTES, SEALED_MAX = NOISE_MAX + 2 };

enum {
    READ_BYTES = 256 * 1024,      /* asked of a TCP socket at a time: about four full messages, which the caches hold */
    SEALED_MESSAGES = 8,          /* sealed before they are written: half a MiB in one system call */
    TURN_BYTES = 512 * 1024,      /* read from one stream before others have their turn */
    READS_A_TURN = 4,             /* of one TCP socket, for the same reason */
    POOLED_BUFFERS = 4,           /* of each kind kept for the next session: an idle session owns none */
    BUCKETS = 32,                 /* of a session's table of streams; it has few, up to max_streams */
    VECTORS = 32,                 /* pieces of one read that go to one stream in one write */
    BACKLOG_MAX = 128,            /* streams of a session that wait to be accepted; the next is refused. Since they are
                                   * acknowledged at once, this bounds what a peer may pile up while nobody accepts */
    BATCH = 128                   /* events of one epoll_wait */
};

/* A token bucket for what a peer makes us do without moving any data: opening streams, pings, frames for streams that
 * are gone (a token for each 16 KiB). Honest peers cause the last kind when we reset a stream while up to a window is
 * on its way: 4 MiB are 256 tokens, so that the burst allows for 256 streams that are reset at once. */
enum { WASTE_A_SECOND = 5000, WASTE_BURST = 65536, WASTE_BYTES = 16384 };

static const int64_t SECOND = 1000000000;
#define LINGER (30 * SECOND)      /* for the peer to close its side of a stream that nobody reads here any more */
#define CLOSE_TIMEOUT (SECOND / 2)      /* to write what is queued when a session is closed */
#define SLOW_TICK (SECOND / 4)    /* how exact pings and lingering are */
#define FAST_TICK (SECOND / 50)   /* while a session is paused or closing: a pause costs throughput if it is overlong */

/* ------------------------------------------------------------------ encryption */

/* libcrypto's working memory, for one thread and all of its sessions: changing the key costs next to nothing, and a
 * context of its own for each direction of each session would be most of what an idle session takes. */
typedef struct {
    void *seal, *open;            /* NULL with libsodium, which needs none */
} engine_t;

/* One direction of a noise session: its CipherState (noise, section 5.1). */
typedef struct {
    uint8_t key[KEY_BYTES];
    uint64_t counter;             /* messages so far, and the next nonce */
} cipher_t;

/* ------------------------------------------------------------------ objects */

enum { KIND_WAKE, KIND_SESSION, KIND_STREAM };

typedef struct stream stream_t;
typedef struct session session_t;

struct stream {
    int kind;                     /* first in each of them: epoll's data points here */
    int ended;
    uint32_t id;
    int fd;                       /* -1 before it is accepted */
    uint32_t interest;            /* the mask that epoll knows; 0 when it knows none */
    session_t *session;           /* NULL once it has ended: that may be freed first */
    uint64_t session_id;
    stream_t *next;               /* in the session's table */
    stream_t *link;               /* in the reactor's list of ended streams, or of dead ones */
    stream_t *flush;              /* in the list of streams with vectors to write */
    stream_t *backlog_before, *backlog_after;   /* in the list of streams that wait to be accepted */
    stream_t *linger;             /* in the list of streams that nobody reads */
    int64_t linger_until;
    int64_t send_window, receive_window;
    uint32_t window;              /* what receive_window is when everything has been read */
    uint32_t consumed;            /* read, but not granted again */
    uint32_t prepaid;             /* granted already, though it comes by here once more: see stream_splice */
    uint8_t *queue;               /* received, and not taken by the reader */
    size_t queue_offset, queued, queue_capacity;
    struct iovec vectors[VECTORS];          /* received in this turn; they point into reactor->opened */
    int vector_count;
    uint8_t attached;             /* the user has it, and will be told of its end */
    uint8_t inbound, in_backlog, flushing, lingering, reader_gone;
    uint8_t send_closed, receive_closed, finished;
    uint8_t reason;
};

struct session {
    int kind;
    int ended;
    uint64_t id;
    int fd;
    uint32_t interest;
    reactor_t *reactor;
    session_t *link;              /* in the reactor's list of ended sessions, or of dead ones */
    session_t *dirty_next;        /* in the list of sessions with something to send */
    cipher_t seal, open;
    uint8_t *partial;             /* an incomplete noise message */
    size_t partial_size, partial_capacity;
    uint8_t *plain;               /* frames to be sealed: the next message */
    size_t plain_size;
    uint8_t *sealed;              /* messages to be written */
    size_t sealed_offset, sealed_size, sealed_capacity;
    uint8_t header[HEADER_BYTES]; /* of the frame that comes in, as far as it has come */
    int header_size;
    uint32_t payload_left;
    uint8_t payload_flags;
    stream_t *current;            /* whose payload comes in; NULL for one that is gone */
    stream_t *table[BUCKETS];
    uint32_t inbound, outbound, backlog, next_stream;
    int64_t last_received, ping_sent;       /* when; `ping_sent` is 0 unless an answer is awaited */
    uint32_t ping_number;
    int64_t round_trip;
    int64_t waste_tokens, waste_refilled;   /* a token bucket: see WASTE_A_SECOND */
    int64_t read_tokens, read_refilled;     /* another for bytes, if they are limited */
    int64_t close_deadline;       /* until when what is queued may be written; 0 unless we close */
    size_t queued;                /* bytes in the queues of its streams */
    uint8_t initiator, dirty, blocked, paused, shut_down, go_away_received;
    uint8_t reason;
};

typedef struct block {
    struct block *next;
} block_t;

typedef struct {
    block_t *first;
    int count;
} pool_t;

struct reactor {
    int kind;                     /* KIND_WAKE: as epoll's data it stands for wake_fd */
    int epoll_fd, wake_fd;
    int event_fd;                 /* readable while there is something to take */
    pthread_t thread;
    int running;
    atomic_int stop, dead;
    pthread_mutex_t stopping, turnstile, mutex;
    limits_t limits;
    counters_t counters;
    session_t **slots;
    uint32_t slot_count, session_count, fast_ticking;   /* the last: sessions that FAST_TICK is for */
    uint64_t generation;
    session_t *dirty, *ended_sessions, *dead_sessions;
    stream_t *flush, *ended_streams, *dead_streams, *backlog_first, *backlog_last, *linger_first, *linger_last;
    uint64_t memory, promised;    /* bytes: in buffers; of windows beyond the initial one */
    int64_t next_tick;
    int skip_yields, skip_busy_polls, was_active;
    uint8_t *input, *opened;      /* what was read, and the same opened */
    pool_t plain_pool, sealed_pool;
    engine_t engine;
    reactor_t *next;              /* in the list of all reactors */
};

/* ------------------------------------------------------------------ small helpers of the hot path */

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static inline uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void put32(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

/* yamux, "Framing": version 0, type, flags, stream, length, all big endian. */
static inline void put_header(uint8_t *p, int type, int flags, uint32_t stream, uint32_t length) {
    p[0] = 0;
    p[1] = (uint8_t)type;
    p[2] = 0;
    p[3] = (uint8_t)flags;
    put32(p + 4, stream);
    put32(p + 8, length);
}

/* Has the session's frames sealed and written at the end of this turn. */
static inline void mark_dirty(session_t *s) {
    if (s->dirty || s->ended) return;
    s->dirty = 1;
    s->dirty_next = s->reactor->dirty;
    s->reactor->dirty = s;
}

static inline stream_t *stream_find(session_t *s, uint32_t id) {
    stream_t *t = s->table[(id >> 1) % BUCKETS];   /* without the lowest bit, which says whose stream it is */
    while (t && t->id != id) t = t->next;
    return t;
}

/* ------------------------------------------------------------------ aead.c */

int aead_chosen(void);
int engine_start(engine_t *e);    /* -1 when memory is exhausted */
void engine_end(engine_t *e);
void cipher_start(cipher_t *c, const uint8_t key[KEY_BYTES], uint64_t counter);
void cipher_end(cipher_t *c);
int cipher_seal(const engine_t *e, cipher_t *c, uint8_t *out, const uint8_t *in, int size);
int cipher_open(const engine_t *e, cipher_t *c, uint8_t *out, const uint8_t *in, int size);

/* ------------------------------------------------------------------ state.c */

void reactor_lock(reactor_t *r);
void reactor_unlock(reactor_t *r);
void reactor_wake(reactor_t *r);
void notify(reactor_t *r);
void set_interest(reactor_t *r, void *object, int fd, uint32_t *have, uint32_t want);
void *pool_take(reactor_t *r, pool_t *pool, size_t size);
void pool_give(reactor_t *r, pool_t *pool, void *memory, size_t size);
void pool_drain(pool_t *pool);
int take_tokens(int64_t *tokens, int64_t *refilled, int64_t rate, int64_t burst, int64_t wanted, int64_t now);
session_t *session_find(const reactor_t *r, uint64_t id);
int session_register(reactor_t *r, session_t *s);
void session_end(session_t *s, int reason);
void reap(reactor_t *r);

/* ------------------------------------------------------------------ reactor.c */

void reactor_turn(reactor_t *r, int timeout);

/* ------------------------------------------------------------------ receive.c */

int keep_partial(session_t *s, const uint8_t *data, size_t size);
void parse_frames(session_t *s, const uint8_t *data, size_t size);
void session_read(session_t *s);

/* ------------------------------------------------------------------ send.c */

void drop_plain(session_t *s);
void drop_sealed(session_t *s);
int write_sealed(session_t *s);
int seal_plain(session_t *s, int control);
uint8_t *plain_room(session_t *s, size_t size, int control);
int send_control(session_t *s, int type, int flags, uint32_t stream, uint32_t length);
void flush_dirty(reactor_t *r);
void session_unblock(session_t *s);

/* ------------------------------------------------------------------ stream.c */

stream_t *stream_new(session_t *s, uint32_t id, int inbound);
void stream_leave_backlog(stream_t *t);
void stream_stop_lingering(stream_t *t);
void stream_end(stream_t *t, int reason);
void stream_reset(stream_t *t, int reason);
void stream_end_if_finished(stream_t *t);
void stream_reader_gone(stream_t *t);
void stream_interest(stream_t *t);
void stream_read(stream_t *t, int last);

/* ------------------------------------------------------------------ deliver.c */

int queue_put(stream_t *t, const void *data, size_t size);
void drop_queue(stream_t *t);
void stream_reset_crowded(stream_t *t);
void stream_finish_receiving(stream_t *t);
void stream_write(stream_t *t);
void stream_deliver(stream_t *t, const uint8_t *data, size_t size);
void flush_streams(reactor_t *r);

#endif
