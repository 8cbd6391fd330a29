"""Seals for parties of a simulation, and what all of them have signed.

The codec runs for real: a message is encoded, and decoded again from the string, when it is made. Who
receives the same string later gets the same frozen message, which is what decoding it again would give.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import SIGNING_CONTEXT, Envelope
from mlnet.identity.keys import Identity
from mlnet.protocol.machine import Signer
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire import codec
from mlnet.protocol.wire.message_types import type_of
from mlnet.protocol.wire.messages import Body, Message

MAX_KEPT = 1 << 17
"""Decoded messages that are kept; beyond it all are forgotten and decoded anew."""
_ALPHABET = str.maketrans("0123456789abcdef", "123456789ABCDEFG")

Observer = Callable[[Message], None]
"""Told of each message that a party signs."""


def _ignore(_: Message) -> None:
    """Of a mint that nobody watches."""


class Mint:
    """Makes the signers of a world.

    Args:
        real: Ed25519 signatures of real identities in place of keyed hashes.
    """

    def __init__(self, *, real: bool = False) -> None:
        self.real = real
        self.keys: dict[str, bytes] = {}
        self.signed: Observer = _ignore
        self._known: dict[str, Message] = {}

    def signer(self, name: str) -> Signer:
        """The signer of the party with a name; the same name gives the same identity."""
        seed = hashlib.sha256(b"mlnet-simulation " + name.encode()).digest()
        return _Ed25519Signer(self, Identity.from_seed(seed)) if self.real else _HashSigner(self, seed)

    def issue(self, message: Message) -> Message:
        """Note a message that was just signed."""
        self._keep(message)
        self.signed(message)
        return message

    def open(self, envelope: Envelope, check: Callable[[Message], bool]) -> Message:
        """The message in an envelope, decoded and verified once for all who receive it.

        Raises:
            RemoteProtocolError: it is not a message, or not its sender's.
        """
        known = self._known.get(envelope.yaml)
        if known is not None and known.envelope.signature == envelope.signature:
            return known
        message = codec.message(envelope)
        if not check(message):
            raise RemoteProtocolError(
                f"this {message.type} is not signed by {message.sender}, its stated sender"
            )
        self._keep(message)
        return message

    def _keep(self, message: Message) -> None:
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
        self._known[message.envelope.yaml] = message


class _HashSigner:
    """Signs with a keyed hash whose keys the mint knows: fast, and no party of a world can forge it."""

    def __init__(self, mint: Mint, seed: bytes) -> None:
        self._mint, self._seed = mint, seed
        self.peer_id = "12D3KooW" + hashlib.sha256(seed).hexdigest().translate(_ALPHABET)[:44]
        mint.keys[self.peer_id] = seed

    def sign(self, body: Body, *, task: str = "", attempt: int = 0, sent: int) -> Message:
        """See :class:`mlnet.protocol.machine.Signer`."""
        text = codec.encode(
            type_of(body).name, task=task, attempt=attempt, sender=self.peer_id, sent=sent, body=body
        )
        return self._mint.issue(codec.message(Envelope(text, _sign(self._seed, text))))

    def verify(self, envelope: Envelope) -> Message:
        """See :class:`mlnet.protocol.machine.Signer`."""
        return self._mint.open(envelope, self._is_genuine)

    def secret(self, context: str) -> bytes:
        """See :class:`mlnet.protocol.machine.Signer`."""
        return hmac.digest(self._seed, context.encode(), "sha256")

    def _is_genuine(self, message: Message) -> bool:
        key = self._mint.keys.get(message.sender)
        return key is not None and message.envelope.signature == _sign(key, message.envelope.yaml)


class _Ed25519Signer:
    """The product's own signer; what was verified once is not verified again."""

    def __init__(self, mint: Mint, identity: Identity) -> None:
        self._mint, self._real = mint, IdentitySigner(identity)
        self.peer_id = identity.peer_id

    def sign(self, body: Body, *, task: str = "", attempt: int = 0, sent: int) -> Message:
        """See :class:`mlnet.protocol.machine.Signer`."""
        return self._mint.issue(self._real.sign(body, task=task, attempt=attempt, sent=sent))

    def verify(self, envelope: Envelope) -> Message:
        """See :class:`mlnet.protocol.machine.Signer`."""
        return self._mint.open(envelope, self._is_genuine)

    def secret(self, context: str) -> bytes:
        """See :class:`mlnet.protocol.machine.Signer`."""
        return self._real.secret(context)

    def _is_genuine(self, message: Message) -> bool:
        return self._real.verify(message.envelope) == message


def _sign(key: bytes, text: str) -> bytes:
    return hashlib.blake2b(SIGNING_CONTEXT + text.encode(), key=key, digest_size=64).digest()
