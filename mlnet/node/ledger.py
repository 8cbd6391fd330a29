"""A node's receipts: what it has earned, and the signed messages that prove it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from mlnet.errors import ConfigError
from mlnet.protocol.wire.messages import Signed
from mlnet.util import files


class Receipt(msgspec.Struct, frozen=True):
    """One task's reward.

    Attributes:
        task: the task's id.
        client: peer id of the payer.
        state: ``settled`` when more than half of the committee and the client have signed the split, else
            ``claimed``.
        amount: this node's share, micro-units.
        payment: the whole payment, micro-units.
        split: everybody's share, by peer id.
        recorded: ms since 1970.
        evidence: the signed REWARDS messages.
    """

    task: str
    client: str
    state: Literal["settled", "claimed"]
    amount: int
    payment: int
    split: dict[str, int]
    recorded: int
    evidence: tuple[Signed, ...]


class Ledger:
    """A directory of receipts, one file for each task, so that no receipt is counted twice.

    Args:
        directory: made when it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def record(self, receipt: Receipt) -> None:
        """Write a receipt durably. A settled one replaces a claimed one; nothing replaces a settled one.

        Raises:
            OSError: it cannot be written.
            ConfigError: the existing one is damaged.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / f"{receipt.task}.json"
        if path.exists() and self._read(path).state == "settled":
            return
        files.replace(path, msgspec.json.format(msgspec.json.encode(receipt), indent=2))

    def receipts(self) -> list[Receipt]:
        """All receipts, oldest first.

        Raises:
            ConfigError: a file is damaged.
        """
        if not self._directory.is_dir():
            return []
        found = [self._read(path) for path in self._directory.glob("*.json")]
        return sorted(found, key=lambda receipt: (receipt.recorded, receipt.task))

    @staticmethod
    def _read(path: Path) -> Receipt:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Receipt)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{path} is not a valid receipt: {error}; move it out of the ledger") from error
