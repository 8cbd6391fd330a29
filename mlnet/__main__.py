"""``python -m mlnet`` is ``mlnet-node``."""

from __future__ import annotations

from mlnet.cli import main

main()
