"""What commands share that ask a node: the client, and what is printed of its answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table

from mlnet.cli import console
from mlnet.sdk.async_client import AsyncClient
from mlnet.util import local_json

T = TypeVar("T")
PLAIN_WIDTH = 200
"""Columns where there is no terminal: nothing is cut off."""


class Address(NamedTuple):
    """Which node a user means; see :func:`mlnet.sdk.target.find`."""

    node: str | None = None
    token: str | None = None
    ca: Path | None = None

    def client(self, notice: Callable[[str], object] = console.say) -> AsyncClient:
        """A client of that node.

        Raises:
            ConfigError: the address is none.
        """
        return AsyncClient(self.node, token=self.token, ca=self.ca, notice=notice)


def ask(address: Address, question: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """What a node answers.

    Raises:
        MlnetError: what it says; PeerUnreachable where there is none.
    """

    async def run() -> T:
        async with address.client() as client:
            return await question(client)

    return asyncio.run(run())


def print_document(value: object) -> None:
    """Write one JSON document to standard output."""
    write(local_json.encode(value, indent=2) + b"\n")


def print_line(value: object) -> None:
    """Write one line of JSON to standard output, at once."""
    write(local_json.encode(value) + b"\n")


def write(data: bytes) -> None:
    """Write bytes to standard output, at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def show(part: object) -> None:
    """Print text or a table to standard output."""
    terminal = sys.stdout.isatty()
    Console(
        file=sys.stdout,
        width=None if terminal else PLAIN_WIDTH,
        highlight=False,
        emoji=False,
        markup=False,
    ).print(part, soft_wrap=isinstance(part, str))


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines; the columns named last stand on the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made
