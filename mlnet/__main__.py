"""``python -m mlnet`` is ``mlnet-node``."""

from __future__ import annotations

import sys

if not sys.flags.safe_path:
    # ``-m`` puts the current directory first, where somebody's ``random.py`` may lie.
    del sys.path[0]

from mlnet.cli.app import main

main()
