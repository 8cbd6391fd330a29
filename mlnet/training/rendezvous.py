"""How the ranks meet: a torch Store on the task's elected Redis pair, and a gloo that listens where it is
told."""

from __future__ import annotations
