/* What a reactor, a session and a stream are, and the memory that they may take.
 *
 * One mutex guards all of it: the I/O thread holds it while it works, but not while it sleeps, and every call from
 * outside holds it. Who ends an object takes it out of everything that names it and puts it into the graveyard; the
 * I/O thread frees that after the batch of events that may still point there. */
#ifndef MLNET_SESSION_STATE_H
#define MLNET_SESSION_STATE_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "session_aead.h"

/* yamux, as hashicorp's spec.md has it. */
enum { YAMUX_DATA, YAMUX_WINDOW, YAMUX_PING, YAMUX_GO_AWAY };
enum { FLAG_SYN = 1, FLAG_ACK = 2, FLAG_FIN = 4, FLAG_RST = 8 };
enum { HEADER_BYTES = 12, INITIAL_WINDOW = 256 * 1024 };

/* noise: two bytes of length, and at most 65535 of ciphertext. */
enum { NOISE_MAX = 65535, PLAIN_MAX = NOISE_MAX - TAG_BYTES, SEALED_MAX = NOISE_MAX + 2 };

enum {
    READ_BYTES = 256 * 1024,      /* asked of a TCP socket at a time */
    SEALED_MESSAGES = 8,          /* sealed before they are written */
    TURN_BYTES = 512 * 1024,      /* taken from one stream before others have their turn */
    READS_A_TURN = 4,             /* of one TCP socket */
    POOLED_BUFFERS = 4,           /* of each kind kept for the next session that needs one */
    BUCKETS = 32,                 /* of a session's table of streams */
    VECTORS = 32,                 /* pieces of one read that go to one stream in one write */
    UNACCEPTED_MAX = 128,         /* streams of a session that nobody has asked for yet */
    BATCH = 128                   /* events of one wake */
};

/* What a peer may make us do for nothing: opening streams, pings, frames for streams that are gone (one for each 16 KiB).
 * Streams that we reset while the peer has a whole window on its way fit into the burst. */
enum { WASTE_A_SECOND = 5000, WASTE_BURST = 65536, WASTE_BYTES = 16384 };

static const int64_t SECOND = 1000000000;
#define LINGER (30 * SECOND)      /* for the peer's end of a stream that nobody reads here any more */
#define FAREWELL (SECOND / 2)     /* for what is queued when a session is closed */
#define SLOW_TICK (SECOND / 4)
#define FAST_TICK (SECOND / 50)

/* Why something ended; the numbers are those of mlnet.net.muxer.native. */
enum {
    END_NONE,
    END_FIN,        /* a stream: both sides have closed it */
    END_RESET,      /* a stream: the peer reset it, or its session is over */
    END_LOCAL,      /* we ended it */
    END_EOF,        /* the peer closed the TCP connection */
    END_ERROR,      /* the TCP connection broke, or memory is short */
    END_CRYPTO,     /* a message that the peer did not seal */
    END_PROTOCOL,   /* a frame against the rules */
    END_SILENT,     /* no answer to a ping */
    END_FLOOD,      /* too much that is of no use, or it does not read its answers */
    END_CROWDED,    /* a stream: the memory for what its reader does not take is used up */
    END_GOODBYE     /* the peer closed the session */
};

enum { KIND_WAKE, KIND_SESSION, KIND_STREAM };

typedef struct stream stream_t;
typedef struct session session_t;
typedef struct reactor reactor_t;

struct stream {
    int kind;                     /* first: epoll's data points here */
    int ended;
    uint32_t id;
    int fd;                       /* -1 before it is accepted */
    uint32_t interest;            /* the mask that epoll knows; 0 when it knows none */
    session_t *session;
    uint64_t session_id;
    stream_t *next;               /* in the session's table */
    stream_t *link;               /* in the reactor's list of ended streams, or in the graveyard */
    stream_t *flush;              /* in the list of streams with vectors to be written */
    stream_t *waits_before, *waits_after;   /* in the list of streams to be accepted */
    stream_t *linger;             /* in the list of streams that nobody reads */
    int64_t linger_until;
    int64_t send_window, receive_window;
    uint32_t window;              /* what receive_window is when everything has been read */
    uint32_t consumed;            /* read, but not granted again */
    uint32_t prepaid;             /* granted already, though it comes by here once more */
    uint8_t *queue;               /* received, and not taken by the reader */
    size_t queue_offset, queued, queue_capacity;
    struct iovec vectors[VECTORS];          /* received in this turn; they point into a buffer of the I/O thread */
    int vector_count;
    uint8_t known;                /* outside; its end will be told */
    uint8_t inbound, waiting, flushing, lingering, reader_gone;
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
    session_t *link;              /* in the reactor's list of ended sessions, or in the graveyard */
    session_t *dirty_next;
    cipher_t seal, open;
    uint8_t *part;                /* an incomplete noise message */
    size_t part_size, part_capacity;
    uint8_t *plain;               /* frames to be sealed */
    size_t plain_size;
    uint8_t *sealed;              /* messages to be written */
    size_t sealed_offset, sealed_size, sealed_capacity;
    uint8_t header[HEADER_BYTES];
    int header_size;
    uint32_t payload_left;
    uint8_t payload_flags;
    stream_t *current;            /* whose payload comes in; NULL for one that is gone */
    stream_t *table[BUCKETS];
    uint32_t inbound, outbound, waiting, next_stream;
    int64_t heard, pinged;        /* when; `pinged` is 0 unless a ping is under way */
    uint32_t ping_number;
    int64_t round_trip;
    int64_t waste, waste_at;      /* a token bucket: see WASTE_A_SECOND */
    int64_t budget, budget_at;    /* the same for bytes, if they are limited */
    int64_t closing;              /* until when what is queued may be written; 0 unless we close */
    size_t queued;                /* bytes in the queues of its streams */
    uint8_t initiator, dirty, blocked, paused, farewell, said_goodbye;
    uint8_t reason;
};

typedef struct block {
    struct block *next;
} block_t;

typedef struct {
    block_t *first;
    int count;
} pool_t;

typedef struct {
    uint32_t max_window;          /* to which a stream's window grows */
    uint32_t max_streams;         /* that each side of a session may have open */
    uint64_t max_memory;          /* bytes in all buffers of all sessions */
    uint64_t session_memory;      /* bytes in the queues of one session */
    uint64_t bytes_per_second;    /* that are read from one session; 0 for as many as come */
    int64_t ping_every, ping_timeout;       /* nanoseconds */
} limits_t;

typedef struct {
    uint64_t wakes, tcp_reads, tcp_writes, bytes_in, bytes_out, messages_in, messages_out;
    uint64_t local_reads, local_writes, streams_opened, streams_accepted, streams_refused, streams_crowded, pings, yields;
} counters_t;

struct reactor {
    int kind;
    int epoll, wake, told;        /* told: an eventfd that is readable while there is something to take */
    pthread_t thread;
    int running, dead;
    volatile int stop;
    pthread_mutex_t stopping, turnstile, mutex;
    limits_t limits;
    counters_t counters;
    session_t **slots;
    uint32_t slot_count, session_count, busy_count;   /* busy: sessions that the next tick must not wait for */
    uint64_t generation;
    session_t *dirty, *ended_sessions, *dead_sessions;
    stream_t *flush, *ended_streams, *dead_streams, *waits_first, *waits_last, *linger_first, *linger_last;
    uint64_t memory, promised;    /* bytes: in buffers; of windows beyond the initial one */
    int64_t next_tick;
    int skip_yields, skip_loiters, lively;
    uint8_t *input, *opened;      /* what was read, and the same opened */
    pool_t plain_pool, sealed_pool;
    engine_t engine;
    reactor_t *next;
};

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void put_header(uint8_t *p, int type, int flags, uint32_t stream, uint32_t length) {
    p[0] = 0;
    p[1] = (uint8_t)type;
    p[2] = 0;
    p[3] = (uint8_t)flags;
    put32(p + 4, stream);
    put32(p + 8, length);
}

static void *take_block(reactor_t *r, pool_t *pool, size_t size) {
    block_t *b = pool->first;
    if (b) {
        pool->first = b->next;
        pool->count--;
    } else if (!(b = malloc(size))) {
        return NULL;
    }
    r->memory += size;
    return b;
}

static void give_block(reactor_t *r, pool_t *pool, void *memory, size_t size) {
    r->memory -= size;
    if (pool->count >= POOLED_BUFFERS) {
        free(memory);
        return;
    }
    block_t *b = memory;
    b->next = pool->first;
    pool->first = b;
    pool->count++;
}

static void drain_pool(pool_t *pool) {
    while (pool->first) {
        block_t *b = pool->first;
        pool->first = b->next;
        free(b);
    }
    pool->count = 0;
}

static void set_interest(reactor_t *r, void *object, int fd, uint32_t *have, uint32_t want) {
    if (*have == want) return;
    struct epoll_event event = {.events = want, .data = {.ptr = object}};
    epoll_ctl(r->epoll, !*have ? EPOLL_CTL_ADD : !want ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd, &event);
    *have = want;
}

static void tell(reactor_t *r) {
    uint64_t one = 1;
    if (write(r->told, &one, sizeof one) < 0) return;   /* it is readable already */
}

/* Takes from a token bucket of `rate` a second; whether there was enough. */
static int take_tokens(int64_t *tokens, int64_t *at, int64_t rate, int64_t burst, int64_t wanted, int64_t now) {
    int64_t elapsed = now - *at;
    if (elapsed > SECOND * 60) elapsed = SECOND * 60;
    int64_t more = elapsed / 1000 * rate / (SECOND / 1000);
    if (more > 0) {
        *tokens = *tokens + more > burst ? burst : *tokens + more;
        *at = now;
    }
    *tokens -= wanted;
    return *tokens >= 0;
}

#endif
