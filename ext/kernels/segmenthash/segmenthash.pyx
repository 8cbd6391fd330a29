# cython: language_level=3, autotestdict=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Compiled half of mlnet.kernels.segmenthash, which checks the arguments and describes their meaning."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

import os

cdef extern from "segmenthash.h" nogil:
    enum:
        MLNET_LEAF_SIZE
        MLNET_FILE_ENDED
    const char *mlnet_sha256_select(bint portable)
    void mlnet_leaf_hashes(const uint8_t *data, size_t size, uint8_t *hashes)
    int mlnet_file_leaf_hashes(int file, long long start, size_t size, bint mapped, uint8_t *hashes)
    void mlnet_tree_root(const uint8_t *hashes, size_t count, uint8_t *root)

ENGINE = mlnet_sha256_select(False).decode()
"""Which SHA-256 this processor runs: ``sha-ni`` or ``portable``."""


def select_engine(bint portable):
    """Takes the portable SHA-256 or the fastest one, to compare them; not while another thread is hashing."""
    global ENGINE
    ENGINE = mlnet_sha256_select(portable).decode()


def leaf_hashes(const uint8_t[::1] data):
    """The RFC 6962 hashes of the leaves of the data, 32 bytes each, joined."""
    cdef Py_ssize_t size = data.shape[0]
    if size == 0:
        return b""
    cdef bytes hashes = PyBytes_FromStringAndSize(NULL, 32 * ((size - 1) // MLNET_LEAF_SIZE + 1))
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(hashes)
    cdef const uint8_t *start = &data[0]
    with nogil:
        mlnet_leaf_hashes(start, size, out)
    return hashes


def file_leaf_hashes(int file, long long start, Py_ssize_t size, bint mapped):
    """The same for a part of a file that starts with a leaf; it may be mapped where nobody can shorten it."""
    cdef Py_ssize_t leaves = (size + MLNET_LEAF_SIZE - 1) // MLNET_LEAF_SIZE
    cdef bytes hashes = PyBytes_FromStringAndSize(NULL, 32 * leaves)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(hashes)
    cdef int error
    with nogil:
        error = mlnet_file_leaf_hashes(file, start, size, mapped, out)
    if error == MLNET_FILE_ENDED:
        raise EOFError
    if error:
        raise OSError(error, os.strerror(error))
    return hashes


def root(const uint8_t[::1] hashes):
    """MTH of RFC 6962, section 2.1, over joined leaf hashes."""
    cdef Py_ssize_t count = hashes.shape[0] // 32
    cdef bytes digest = PyBytes_FromStringAndSize(NULL, 32)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(digest)
    cdef const uint8_t *start = &hashes[0] if count else NULL
    with nogil:
        mlnet_tree_root(start, count, out)
    return digest
