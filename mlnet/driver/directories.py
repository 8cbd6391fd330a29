"""Where a party keeps its files unless told otherwise. Loads nothing, so that the ledger is read at once."""

from __future__ import annotations

import os
from pathlib import Path

from mlnet.errors import ConfigError


def default_data_dir(party: str) -> Path:
    """Where a party keeps its identity, journals and ledger: below XDG_DATA_HOME.

    Raises:
        ConfigError: there is neither that nor a home directory.
    """
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not base.is_absolute():  # the standard has such a one ignored, as an empty one
        try:
            base = Path("~/.local/share").expanduser()
        except RuntimeError as error:
            raise ConfigError(
                "this user has no home directory; set HOME or XDG_DATA_HOME, or choose a directory with "
                "--data-dir"
            ) from error
    return base / "mlnet" / party
