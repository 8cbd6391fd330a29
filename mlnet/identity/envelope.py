"""What crosses the network: a YAML string and the signature over it."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

SIGNING_CONTEXT = b"mlnet-envelope-1\0"
"""Prefix of every signed string, so that a signature made for mlnet means nothing elsewhere."""


class Envelope(NamedTuple):
    """One signed message, byte for byte as its sender wrote it.

    Attributes:
        yaml: the message, one YAML mapping.
        signature: Ed25519 over :data:`SIGNING_CONTEXT` and the UTF-8 bytes of ``yaml``; 64 bytes.
    """

    yaml: str
    signature: bytes

    @property
    def size(self) -> int:
        """Bytes of the string in UTF-8.

        Raises:
            UnicodeEncodeError: it holds half of a surrogate pair.
        """
        return len(self.yaml) if self.yaml.isascii() else len(self.yaml.encode())

    @property
    def digest(self) -> str:
        """SHA-256 of the string, in hex: the identity of the message."""
        return hashlib.sha256(self.yaml.encode()).hexdigest()

    @property
    def signing_input(self) -> bytes:
        """The bytes that are signed."""
        return SIGNING_CONTEXT + self.yaml.encode()
