# cython: language_level=3, autotestdict=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Compiled half of mlnet.kernels.signatures, which describes what it does.

Ed25519 (RFC 8032) is libsodium's, called by address: PyNaCl has it in the process already.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

# crypto_sign_open. Without a place for the message it verifies and copies nothing.
ctypedef int (*opener)(
    unsigned char *opened, unsigned long long *opened_size,
    const unsigned char *signed, unsigned long long signed_size, const unsigned char *key
) noexcept nogil

ctypedef struct entry:
    const unsigned char *key
    const unsigned char *signed
    unsigned long long size
    bint genuine

cdef enum:
    KEY_BYTES = 32


def verify_all(uintptr_t opener_address, tuple signed not None):
    cdef opener open_signed = <opener> opener_address
    cdef Py_ssize_t count = len(signed), index
    cdef bytes key, data
    if open_signed is NULL:
        raise ValueError("there is no function at address 0")
    cdef entry *entries = <entry *> malloc(max(count, 1) * sizeof(entry))
    if entries is NULL:
        raise MemoryError
    try:
        # The tuple keeps the bytes alive.
        for index in range(count):
            key, data = signed[index]
            if key is None or data is None or len(key) != KEY_BYTES:
                raise ValueError("an Ed25519 key has 32 bytes")
            entries[index].key = <const unsigned char *> PyBytes_AS_STRING(key)
            entries[index].signed = <const unsigned char *> PyBytes_AS_STRING(data)
            entries[index].size = <unsigned long long> PyBytes_GET_SIZE(data)
        with nogil:
            for index in range(count):
                entries[index].genuine = 0 == open_signed(
                    NULL, NULL, entries[index].signed, entries[index].size, entries[index].key
                )
        return [entries[index].genuine != 0 for index in range(count)]
    finally:
        free(entries)
