"""A peer-to-peer network that trains models: its public names, each loaded when it is first used."""

from __future__ import annotations

__version__ = "0.1.0"
