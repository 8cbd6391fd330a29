"""The library that encrypts for the native thread: OpenSSL as the interpreter has loaded it, else libsodium
as PyNaCl brings it. Either is called by the addresses of its functions."""

from __future__ import annotations

from typing import Final

from mlnet.net.muxer import _session


def _libcrypto() -> list[int] | None:
    """The addresses of libcrypto's functions, as the interpreter's ssl module has loaded it."""
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
    """Choose the library that encrypts; its name.

    Raises:
        ImportError: there is none that works.
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
        raise ImportError("neither OpenSSL nor libsodium encrypts as it must")
    return "libsodium"


NAME: Final = load_aead()
"""The one that was chosen."""
