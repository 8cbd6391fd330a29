"""How many threads a kernel that releases the GIL may use."""

from __future__ import annotations

from mlnet.util import capacity

THREADS = min(capacity.processors(), 8)
"""As many as this process may use, within reason: a few saturate the memory."""
