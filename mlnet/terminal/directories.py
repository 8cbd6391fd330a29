"""Where a party keeps its files unless told otherwise. Loads nothing, so that the ledger is read at once."""

from __future__ import annotations

import os
from pathlib import Path


def default_data_dir(party: str) -> Path:
    """Where a party keeps its identity, journals and ledger: below XDG_DATA_HOME."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "mlnet" / party
