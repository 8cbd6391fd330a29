"""``mlnet-node replay``: what follows from a transcript, and who said what does not."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from mlnet.driver.transcript import read
from mlnet.errors import RemoteProtocolError
from mlnet.identity.keys import Identity
from mlnet.protocol.audit import Audit, audit
from mlnet.protocol.signer import IdentitySigner
from mlnet.util.wording import amount, printable

SHOWN = 12
"""Characters of a hash."""


def replay(path: Path, *, json: bool = False) -> int:
    """Derive a task's decisions from a transcript and print them; the exit code.

    Raises:
        DataError: the file cannot be read, or was changed.
    """
    signer = IdentitySigner(Identity.generate())  # it opens the messages of others and signs none
    found = audit(read(path, signer.verify), signer)
    if json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{printable(line)}\n" for line in _lines(found)))
    return RemoteProtocolError.exit_code if found.lies else 0


def _lines(found: Audit) -> list[str]:
    lines = [f"task       {found.task}", f"client     {found.client}"]
    if found.attempt:
        lines.append(f"attempt    {found.attempt}")
    lines += [f"committee  {peer}" for peer in found.committee]
    if found.master:
        lines += [f"master     {found.master}", f"slave      {found.slave}"]
    lines += [
        f"segment    {digest[:SHOWN]}" + (" held back" if digest in found.held_out else "")
        for digest in found.order
    ]
    if found.model:
        lines.append(f"model      {found.model}")
    lines += [f"reward     {peer} {amount(share)}" for peer, share in sorted(found.rewards.items())]
    if found.rewards:
        lines.append(f"settled    {'yes' if found.settled else 'no'}")
    lines += [f"missing    {what}" for what in found.missing]
    for lie in found.lies:
        proof = ", ".join(digest[:SHOWN] for digest in lie.messages)
        lines.append(f"lie        {lie.peer} {lie.what} [{proof}]")
    return lines
