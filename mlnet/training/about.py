"""Reports what a trainer on this machine would use. It runs as a program of its own, since importing torch
takes a second and half a gigabyte."""

from __future__ import annotations

import json
import sys

from mlnet.util import capacity


def main() -> None:
    """Print version, threads and whether gloo is there, as one JSON line."""
    import torch
    from torch import distributed

    gloo = distributed.is_available() and distributed.is_gloo_available()
    about = {
        "version": torch.__version__,
        "threads": min(torch.get_num_threads(), capacity.processors()),
        "gloo": gloo,
    }
    sys.stdout.write(json.dumps(about) + "\n")


if __name__ == "__main__":
    main()
