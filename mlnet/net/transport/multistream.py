"""Negotiation of a protocol on a connection or a stream (multistream-select), with bounds on what is read.

libp2p 0.8.1 reads as many bytes as a length prefix of up to 64 bits says, and answers any number of
proposals. https://github.com/multiformats/multistream-select
"""

from __future__ import annotations

from typing import Any

from libp2p.custom_types import TProtocol
from libp2p.exceptions import ParseError
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IOException
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError, MultiselectError
from libp2p.protocol_muxer.generic_selector import GenericMultistreamSelector
from libp2p.protocol_muxer.multiselect import DEFAULT_NEGOTIATE_TIMEOUT
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.transport.upgrader import TransportUpgrader
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

MAX_LINE = 1024
"""Bytes of one line, which is a protocol's name."""
MAX_LINES = 32
"""Lines that one side may send. Implementations propose a handful of protocols; each costs us an answer."""


class Communicator(MultiselectCommunicator):
    """Reads the other side's lines, at most :data:`MAX_LINES` of :data:`MAX_LINE` bytes."""

    _lines = 0

    async def read(self) -> str:
        """The next line.

        Raises:
            MultiselectCommunicatorError: the line is too long, is one too many, or is not text.
        """
        self._lines += 1
        if self._lines > MAX_LINES:
            raise MultiselectCommunicatorError("too many proposals")
        try:
            line = await read_varint_prefixed_bytes_limited(self.read_writer, MAX_LINE)
            if not line.endswith(b"\n"):
                raise MultiselectCommunicatorError("a line without its end")
            return line[:-1].decode()
        except (ParseError, IOException, UnicodeDecodeError) as error:
            raise MultiselectCommunicatorError("no line could be read") from error


def bound_negotiation(upgrader: TransportUpgrader) -> None:
    """Make ``upgrader`` negotiate security and multiplexer through :class:`Communicator`."""
    _bound(upgrader.security_multistream._selector)
    _bound(upgrader.muxer_multistream._selector)


def _bound(selector: GenericMultistreamSelector[Any]) -> None:
    async def select(
        conn: ReadWriteCloser, is_initiator: bool, negotiate_timeout: int = DEFAULT_NEGOTIATE_TIMEOUT
    ) -> tuple[TProtocol, Any]:
        communicator, protocol = Communicator(conn), None
        if is_initiator:
            names = tuple(selector.handlers)
            protocol = await selector.multiselect_client.select_one_of(names, communicator, negotiate_timeout)
        else:
            protocol, _ = await selector.multiselect.negotiate(communicator, negotiate_timeout)
        if protocol is None:
            raise MultiselectError("no protocol was named")
        return protocol, selector.handlers[protocol]

    selector.select = select  # type: ignore[method-assign]
