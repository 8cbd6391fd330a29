# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False, autotestdict=False
"""The byte path of TCP connections: noise messages and yamux frames in a thread that does not hold the GIL.

Used by :mod:`mlnet.net.muxer.native`; ``session.h`` has the interface, ``internal.h`` how it works.
"""

from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t

import atexit
import weakref


cdef extern from "session.h" nogil:
    ctypedef struct limits_t:
        uint32_t max_window
        uint32_t max_streams
        uint64_t max_memory
        uint64_t session_memory
        uint64_t bytes_per_second
        int64_t ping_every
        int64_t ping_timeout

    ctypedef struct counters_t:
        uint64_t wakes
        uint64_t tcp_reads
        uint64_t tcp_writes
        uint64_t bytes_in
        uint64_t bytes_out
        uint64_t messages_in
        uint64_t messages_out
        uint64_t local_reads
        uint64_t local_writes
        uint64_t streams_opened
        uint64_t streams_accepted
        uint64_t streams_refused
        uint64_t streams_crowded
        uint64_t pings
        uint64_t yields
        uint64_t sessions
        uint64_t memory

    ctypedef struct event_t:
        int kind
        uint64_t session
        uint32_t stream
        int fd
        int reason

    ctypedef struct reactor_t:
        pass

    enum:
        EVENT_STREAM
        EVENT_STREAM_ENDED
        EVENT_SESSION_ENDED

    void aead_use_sodium(const uintptr_t *)
    void aead_use_crypto(const uintptr_t *)
    int aead_check()
    reactor_t *reactor_new(const limits_t *)
    int reactor_start(reactor_t *)
    void reactor_stop(reactor_t *)
    void reactor_free(reactor_t *)
    int reactor_event_fd(const reactor_t *)
    void reactor_counters(const reactor_t *, counters_t *)
    int64_t session_add(reactor_t *, int, int, const uint8_t *, uint64_t, const uint8_t *, uint64_t,
                        const uint8_t *, size_t)
    int session_close(reactor_t *, uint64_t, uint32_t)
    int64_t stream_open(reactor_t *, uint64_t, int *)
    int stream_splice(reactor_t *, uint64_t, uint32_t, int, int)
    int stream_abort(reactor_t *, uint64_t, uint32_t)
    int reactor_take(reactor_t *, event_t *, int)

cdef enum:
    TAKEN_AT_A_TIME = 64

STREAM = EVENT_STREAM
STREAM_ENDED = EVENT_STREAM_ENDED
SESSION_ENDED = EVENT_SESSION_ENDED


def use_sodium(seal: int, unseal: int) -> bool:
    """Take libsodium's functions, by address; whether they pass the test."""
    cdef uintptr_t functions[2]
    functions[0] = seal
    functions[1] = unseal
    aead_use_sodium(functions)
    return aead_check() == 0


def use_crypto(addresses) -> bool:
    """The same for libcrypto's, in the order of ``aead_use_crypto``."""
    cdef uintptr_t functions[10]
    if len(addresses) != 10:
        raise ValueError(f"10 addresses are wanted, not {len(addresses)}")
    for index in range(10):
        functions[index] = addresses[index]
    aead_use_crypto(functions)
    return aead_check() == 0


cdef class Reactor:
    """An I/O thread and the sessions on it. Thread-safe.

    Args:
        max_window: bytes to which a stream's window grows.
        max_streams: streams that each side of a session may have open.
        max_memory: bytes in the buffers of all sessions.
        session_memory: bytes received for the streams of one session and not yet taken by their readers.
        bytes_per_second: the most that is read from one session; 0 for no limit.
        ping_seconds: silence after which a session is pinged.
        ping_timeout: seconds without a byte after a ping, after which a session ends.

    Raises:
        OSError: descriptors, threads or memory are exhausted.
    """

    cdef reactor_t *_reactor
    cdef object __weakref__

    def __cinit__(
        self,
        *,
        uint32_t max_window,
        uint32_t max_streams,
        uint64_t max_memory,
        uint64_t session_memory,
        uint64_t bytes_per_second,
        double ping_seconds,
        double ping_timeout,
    ):
        cdef limits_t limits
        limits.max_window = max_window
        limits.max_streams = max_streams
        limits.max_memory = max_memory
        limits.session_memory = session_memory
        limits.bytes_per_second = bytes_per_second
        limits.ping_every = <int64_t>(ping_seconds * 1e9)
        limits.ping_timeout = <int64_t>(ping_timeout * 1e9)
        self._reactor = reactor_new(&limits)
        if self._reactor is NULL:
            PyErr_SetFromErrno(OSError)
        error = reactor_start(self._reactor)
        if error:
            raise OSError(error, "no thread can be started")
        # libcrypto frees its tables in exit(), while the thread would still be sealing. A weak reference:
        # this alone must not keep the reactor alive.
        atexit.register(_stop, weakref.ref(self))

    def __dealloc__(self):
        if self._reactor is not NULL:
            with nogil:
                reactor_stop(self._reactor)
                reactor_free(self._reactor)

    @property
    def event_fd(self) -> int:
        """A descriptor that is readable while :meth:`take` has something; it belongs to the reactor."""
        return reactor_event_fd(self._reactor)

    def stop(self) -> None:
        """End the thread and every session at once. Nothing is taken after this."""
        with nogil:
            reactor_stop(self._reactor)

    def add(
        self,
        int fd,
        bint is_initiator,
        const uint8_t[::1] seal_key not None,
        uint64_t sealed,
        const uint8_t[::1] open_key not None,
        uint64_t opened,
        bytes plain not None,
    ) -> int:
        """Take over a TCP connection after its handshake; ``fd`` belongs to the reactor then.

        Args:
            fd: the connection's descriptor.
            is_initiator: whether we dialled.
            seal_key: 32 bytes, for what we send.
            sealed: messages that were sealed with it, which is its next nonce.
            open_key: 32 bytes, for what the peer sends.
            opened: messages that were opened with it.
            plain: bytes of the last of these that nobody has read.

        Returns:
            The session's number.

        Raises:
            OSError: it cannot be taken; ``fd`` is still the caller's.
        """
        cdef const uint8_t *data = plain
        cdef size_t size = len(plain)
        cdef int64_t number
        if seal_key.shape[0] != 32 or open_key.shape[0] != 32:
            raise ValueError("a key has 32 bytes")
        with nogil:
            number = session_add(
                self._reactor, fd, is_initiator, &seal_key[0], sealed, &open_key[0], opened, data, size
            )
        if number < 0:
            PyErr_SetFromErrno(OSError)
        return number

    def close(self, uint64_t session, uint32_t code) -> bool:
        """Send a Go Away, write what is queued for at most half a second, and end.

        False when it has ended before.
        """
        cdef int result
        with nogil:
            result = session_close(self._reactor, session, code)
        return result == 0

    def open(self, uint64_t session) -> tuple:
        """A new stream: its number and a descriptor, which is the caller's.

        Raises:
            OSError: EAGAIN when too many are open, ENOTCONN when the session has ended.
        """
        cdef int fd = -1
        cdef int64_t number
        with nogil:
            number = stream_open(self._reactor, session, &fd)
        if number < 0:
            PyErr_SetFromErrno(OSError)
        return number, fd

    def splice(self, uint64_t session, uint32_t stream, int pair, int socket) -> bool:
        """Put ``socket`` in the place of a stream's descriptor ``pair``; both belong to the reactor then.

        False when the stream has ended: then both are closed.
        """
        cdef int result
        with nogil:
            result = stream_splice(self._reactor, session, stream, pair, socket)
        return result == 0

    def reset(self, uint64_t session, uint32_t stream) -> bool:
        """Reset a stream for both sides; False when it has ended already."""
        cdef int result
        with nogil:
            result = stream_abort(self._reactor, session, stream)
        return result == 0

    def take(self) -> list:
        """What has happened since the last call, as (kind, session, stream, descriptor, reason).

        A STREAM comes with its descriptor, which is the caller's, and what has ended with its reason; the
        descriptor is -1 otherwise. At most 64 at a time: call again until nothing comes.
        """
        cdef event_t events[TAKEN_AT_A_TIME]
        cdef int count
        with nogil:
            count = reactor_take(self._reactor, events, TAKEN_AT_A_TIME)
        return [
            (
                events[index].kind,
                events[index].session,
                events[index].stream,
                events[index].fd,
                events[index].reason,
            )
            for index in range(count)
        ]

    def counters(self) -> dict:
        """What has been counted since the start, and how many sessions and bytes in buffers there are."""
        cdef counters_t counted
        reactor_counters(self._reactor, &counted)
        return counted


def _stop(reference) -> None:
    reactor = reference()
    if reactor is not None:
        reactor.stop()
