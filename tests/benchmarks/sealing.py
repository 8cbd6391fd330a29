"""What no tunnel with noise can do without: each byte is sealed once and opened once."""

from __future__ import annotations

import time

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_BYTES = 65519
"""What the largest noise message carries."""


def sealing(messages: int) -> float:
    """Processor-ms to seal and to open a MB in the largest messages, with OpenSSL and nothing around it."""
    cipher, nonce, plain = ChaCha20Poly1305(bytes(32)), bytes(12), bytes(_BYTES)
    start = time.process_time()
    for _ in range(messages):
        cipher.decrypt(nonce, cipher.encrypt(nonce, plain, None), None)
    return (time.process_time() - start) * 1e3 / (messages * _BYTES / 1e6)
