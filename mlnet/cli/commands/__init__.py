"""The commands of ``mlnet-node``, a file each: a function ``command`` with its options, and a line of help.
One that has commands of its own has a ``group`` of them.

A new one is a file here and its name in :data:`NAMES`. A command's module loads nothing heavy, since the
program's help loads all of them; what the command needs it imports when it runs.
"""

from __future__ import annotations

NAMES = (
    "start",
    "submit",
    "tasks",
    "status",
    "peers",
    "ping",
    "forward",
    "demo",
    "validate",
    "predict",
    "rewards",
    "dashboard",
    "doctor",
    "simulate",
    "replay",
    "completion",
)
"""In the order of the help; each is also the name of a module here."""
