"""Ed25519 signatures, many at a time.

libsodium does the work, through PyNaCl. PyNaCl releases and takes the GIL for each signature, and each time
may wait for a busy event loop; the compiled kernel releases it once for a batch. Where the kernel was not
built, PyNaCl's function is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import nacl.bindings
import nacl.exceptions

_MODE = os.environ.get("MLNET_EXTENSIONS", "auto")

try:
    from nacl._sodium import ffi, lib  # type: ignore[import-not-found]
except ImportError:  # a private module of PyNaCl, which may move
    _OPENER = 0
else:
    _OPENER = int(ffi.cast("uintptr_t", ffi.addressof(lib, "crypto_sign_open")))

__all__ = ["verify_all"]


def verify_all(signed: Iterable[tuple[bytes, bytes]]) -> list[bool]:
    """Verify signatures.

    Args:
        signed: pairs of public key (32 bytes) and signed data, with the signature (64 bytes) in front.

    Returns:
        For each pair, whether the signature is valid.

    Raises:
        ValueError: a key does not have 32 bytes.
    """
    return _verify_all(tuple(signed))


def _verify_each(signed: tuple[tuple[bytes, bytes], ...]) -> list[bool]:
    return [_verify(key, data) for key, data in signed]


def _verify(key: bytes, data: bytes) -> bool:
    if len(key) != nacl.bindings.crypto_sign_PUBLICKEYBYTES:
        raise ValueError("an Ed25519 key has 32 bytes")
    try:
        nacl.bindings.crypto_sign_open(data, key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def _verify_compiled(signed: tuple[tuple[bytes, bytes], ...]) -> list[bool]:
    return _signatures.verify_all(_OPENER, signed)


_verify_all = _verify_each
if _MODE != "skip" and _OPENER:
    try:
        from mlnet.kernels import _signatures
    except ImportError:
        if _MODE == "require":
            raise
    else:
        _verify_all = _verify_compiled
