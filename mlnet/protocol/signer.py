"""Signing and opening of messages by one identity: the protocol's only contact with keys."""

from __future__ import annotations

from collections.abc import Sequence

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import SIGNING_CONTEXT, Envelope
from mlnet.identity.keys import Identity, verify_all
from mlnet.protocol.wire import codec
from mlnet.protocol.wire.message_types import type_of
from mlnet.protocol.wire.messages import Body, Message


class IdentitySigner:
    """Makes messages of our own and opens those of others."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.peer_id = identity.peer_id

    def sign(self, body: Body, *, task: str = "", attempt: int = 0, sent: int) -> Message:
        """Write and sign a message.

        Args:
            body: of a type of :mod:`mlnet.protocol.wire.messages`.
            task: the task's id; none for NEW_ML_TASK and PEERS.
            attempt: see :class:`~mlnet.protocol.wire.messages.Message`.
            sent: ms since 1970.

        Raises:
            LocalProtocolError: the body breaks its own bounds.
        """
        text = codec.encode(
            type_of(body).name, task=task, attempt=attempt, sender=self.peer_id, sent=sent, body=body
        )
        return codec.message(Envelope(text, self._identity.sign(SIGNING_CONTEXT + text.encode())))

    def verify(self, envelope: Envelope) -> Message:
        """Read a message and check its signature.

        Raises:
            RemoteProtocolError: it cannot be read as a message, or its signature is not its sender's.
        """
        (opened,) = self.verify_all((envelope,))
        if isinstance(opened, RemoteProtocolError):
            raise opened
        return opened

    def verify_all(self, envelopes: Sequence[Envelope]) -> list[Message | RemoteProtocolError]:
        """Read messages and check their signatures, in any thread.

        Returns:
            For each the message, or the error that says why it cannot be read or is not its sender's.
        """
        opened = [_read(envelope) for envelope in envelopes]
        messages = [one for one in opened if isinstance(one, Message)]
        genuine = iter(
            verify_all([(one.sender, one.envelope.signing_input, one.envelope.signature) for one in messages])
        )
        return [
            one if isinstance(one, RemoteProtocolError) or next(genuine) else _forged(one) for one in opened
        ]

    def secret(self, context: str) -> bytes:
        """32 bytes that only this identity can know, the same each time for the same context."""
        return self._identity.derive(context.encode())


def _read(envelope: Envelope) -> Message | RemoteProtocolError:
    try:
        return codec.message(envelope)
    except RemoteProtocolError as error:
        return error


def _forged(message: Message) -> RemoteProtocolError:
    return RemoteProtocolError(f"this {message.type} is not signed by {message.sender}, its stated sender")
