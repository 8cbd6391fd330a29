/* The byte path of libp2p's TCP connections: noise transport messages and yamux, in one I/O thread that never takes
 * the GIL. Each yamux stream is one end of a pair of Unix sockets, or any other socket that is put in its place.
 *
 * This header is what session.pyx sees. internal.h describes the objects behind it and which file does what.
 *
 * Specifications, cited below by these names:
 *   noise    https://noiseprotocol.org/noise.html, revision 34
 *   framing  https://github.com/libp2p/specs/tree/master/noise, "Wire Format"
 *   yamux    https://github.com/hashicorp/yamux/blob/master/spec.md, and libp2p's remarks on implementing it:
 *            https://github.com/libp2p/specs/tree/master/yamux
 *   AEAD     RFC 8439, section 2.8 */
#ifndef MLNET_SESSION_H
#define MLNET_SESSION_H

#include <stddef.h>
#include <stdint.h>

/* Limits on what one peer, and all peers together, can make us spend. */
typedef struct {
    uint32_t max_window;          /* bytes to which a stream's receive window grows */
    uint32_t max_streams;         /* that each side of a session may have open */
    uint64_t max_memory;          /* bytes in all buffers of all sessions */
    uint64_t session_memory;      /* bytes in the receive queues of one session */
    uint64_t bytes_per_second;    /* read from one session; 0 for no limit */
    int64_t ping_every, ping_timeout;   /* nanoseconds without a byte: then a ping; then the end */
} limits_t;

typedef struct {
    uint64_t wakes, tcp_reads, tcp_writes, bytes_in, bytes_out, messages_in, messages_out;
    uint64_t local_reads, local_writes, streams_opened, streams_accepted, streams_refused, streams_crowded;
    uint64_t pings, yields;
    uint64_t sessions, memory;    /* not counts but current values: open sessions, bytes in buffers */
} counters_t;

/* Why a stream or a session ended. mlnet.net.muxer.native names the same numbers. */
enum {
    END_NONE,
    END_FIN,        /* a stream: both sides have closed it */
    END_RESET,      /* a stream: the peer reset it, or its session has ended */
    END_LOCAL,      /* we ended it */
    END_EOF,        /* the peer closed the TCP connection without a Go Away */
    END_ERROR,      /* the TCP connection broke, or memory is exhausted */
    END_CRYPTO,     /* a message that does not authenticate */
    END_PROTOCOL,   /* a frame that violates yamux */
    END_SILENT,     /* no answer to a ping */
    END_FLOOD,      /* too many frames that move no data, or the peer does not read our answers */
    END_CROWDED,    /* a stream: the memory for data that its reader has not taken is exhausted */
    END_GO_AWAY     /* the peer closed the session */
};

enum { EVENT_STREAM, EVENT_STREAM_ENDED, EVENT_SESSION_ENDED };

typedef struct {
    int kind;                     /* EVENT_* */
    uint64_t session;
    uint32_t stream;              /* 0 for EVENT_SESSION_ENDED */
    int fd;                       /* of EVENT_STREAM, and the caller's from then on; else -1 */
    int reason;                   /* END_*; END_NONE for EVENT_STREAM */
} event_t;

typedef struct reactor reactor_t;

/* ------------------------------------------------------------------ encryption (aead.c)
 * Choose a library before the first reactor is made: its functions, by address. aead_check says, by 0, whether they
 * encrypt and authenticate as RFC 8439 demands. */

/* crypto_aead_chacha20poly1305_ietf_encrypt and ..._decrypt. */
void aead_use_sodium(const uintptr_t functions[2]);
/* EVP_CIPHER_CTX_new, EVP_CIPHER_CTX_free, EVP_chacha20_poly1305, EVP_EncryptInit_ex, EVP_EncryptUpdate,
 * EVP_EncryptFinal_ex, EVP_DecryptInit_ex, EVP_DecryptUpdate, EVP_DecryptFinal_ex, EVP_CIPHER_CTX_ctrl. */
void aead_use_crypto(const uintptr_t functions[10]);
int aead_check(void);

/* ------------------------------------------------------------------ the reactor (reactor.c)
 * A reactor may be used by several threads at once, except that nobody may be inside when it is freed. */

/* NULL with errno when descriptors or memory are exhausted. */
reactor_t *reactor_new(const limits_t *limits);
/* Starts the I/O thread: 0, or an errno. */
int reactor_start(reactor_t *r);
/* Ends the thread and all sessions at once, and zeroes their keys. May be called twice, and by two threads at once. */
void reactor_stop(reactor_t *r);
/* After reactor_stop, which it does not call. */
void reactor_free(reactor_t *r);
/* A descriptor that is readable while reactor_take has something to say; it remains the reactor's. */
int reactor_event_fd(const reactor_t *r);
void reactor_counters(const reactor_t *r, counters_t *out);

/* ------------------------------------------------------------------ calls (calls.c) */

/* Takes over the TCP connection `fd` after its handshake. The keys have 32 bytes; `sealed` and `opened` messages have
 * used them already; `plain` is what was opened and not yet read. Returns the session's number, or -1 with errno;
 * then `fd` remains the caller's. */
int64_t session_add(reactor_t *r, int fd, int initiator, const uint8_t *seal_key, uint64_t sealed,
                    const uint8_t *open_key, uint64_t opened, const uint8_t *plain, size_t plain_size);
/* Sends a Go Away with `code`, and ends once what is queued has been written, or after half a second. -1 when there
 * is no such session. */
int session_close(reactor_t *r, uint64_t session, uint32_t code);
/* Opens a stream: its number, and in *fd a descriptor that is the caller's. -1 with errno: ENOTCONN when the session
 * has ended, EAGAIN when too many streams are open. */
int64_t stream_open(reactor_t *r, uint64_t session, int *fd);
/* Puts `socket` in the place of a stream's pair, of which the caller holds the end `pair`; what lies unread in that
 * goes to `socket` first. Takes both over. -1 when the stream has ended; then both are closed. */
int stream_splice(reactor_t *r, uint64_t session, uint32_t id, int pair, int socket);
/* Resets a stream for both sides; -1 when there is no such stream. */
int stream_abort(reactor_t *r, uint64_t session, uint32_t id);
/* What has happened since the last call: writes at most `max` events to `out`, and returns how many. */
int reactor_take(reactor_t *r, event_t *out, int max);

#endif
