"""The library that encrypts for the native thread: the interpreter's OpenSSL, or else PyNaCl's libsodium.

The extension links to neither, since a wheel cannot know which OpenSSL it will meet: it gets the addresses of
the functions, and checks each against a test vector before it is used. OpenSSL comes first because it is
several times as fast (3.9 against 0.8 GB/s for ChaCha20-Poly1305 of 64 KiB).
"""

from __future__ import annotations

from typing import Final

from mlnet.net.muxer import _session


def _libcrypto() -> list[int] | None:
    """The addresses of libcrypto's functions in the library that the ssl module has loaded; None without
    it."""
    import ctypes

    names = [
        "EVP_CIPHER_CTX_new",
        "EVP_CIPHER_CTX_free",
        "EVP_chacha20_poly1305",
        "EVP_EncryptInit_ex",
        "EVP_EncryptUpdate",
        "EVP_EncryptFinal_ex",
        "EVP_DecryptInit_ex",
        "EVP_DecryptUpdate",
        "EVP_DecryptFinal_ex",
        "EVP_CIPHER_CTX_ctrl",
    ]
    try:
        import _ssl

        # With a statically linked OpenSSL there may be no file, or no such symbol in it.
        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names]
    except (ImportError, OSError, AttributeError):
        return None
    return [address for address in addresses if address] if all(addresses) else None


def load_aead() -> str:
    """Choose the library that encrypts, and return its name.

    Raises:
        ImportError: neither library encrypts the test vector correctly.
    """
    addresses = _libcrypto()
    if addresses is not None and _session.use_crypto(addresses):
        return "libcrypto"
    from nacl import _sodium

    ffi, lib = _sodium.ffi, _sodium.lib
    seal, opening = (
        int(ffi.cast("uintptr_t", ffi.addressof(lib, f"crypto_aead_chacha20poly1305_ietf_{name}")))
        for name in ("encrypt", "decrypt")
    )
    if not _session.use_sodium(seal, opening):
        raise ImportError("neither OpenSSL nor libsodium encrypts the test vector correctly")
    return "libsodium"


NAME: Final = load_aead()
"""Name of the chosen library."""
