"""What people are told, each message with the case that makes it appear: tables of cases, each with a golden
file.

A case is a function of an empty directory that raises an error of ours, or returns what is shown. Its text is
compared with its entry in ``tests/unit/messages/golden/NAME.txt``. After a change of words that is meant:
``MLNET_UPDATE_GOLDEN=1 pytest tests/unit/messages``, and read the diff.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mlnet.errors import MlnetError

GOLDEN = Path(__file__).parents[1] / "unit" / "messages" / "golden"
PACKAGE = Path(__file__).parents[2]
Case = Callable[[Path], object]


def said(case: Case, directory: Path) -> str:
    """What a case says, without what differs from machine to machine."""
    directory.mkdir()
    try:
        text = str(case(directory))
    except (MlnetError, ValueError) as error:
        text = str(error)
    except Exception as error:
        message = getattr(error, "message", None)  # of typer's own
        if not isinstance(message, str):
            raise
        text = message
    for place, name in ((str(directory), "DIR"), (sys.executable, "PYTHON"), (str(PACKAGE), "PACKAGE")):
        text = text.replace(place, name)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def check(name: str, cases: Mapping[str, Case], tmp_path: Path) -> None:
    """Compare what the cases say with the golden file of that name."""
    entries = []
    for number, (title, case) in enumerate(cases.items()):
        text = said(case, tmp_path / str(number))
        assert text, f"{title}: nothing is said"
        entries.append(f"## {title}\n{text}\n")
    compare(name, "\n".join(entries))


def compare(name: str, text: str) -> None:
    """Compare a text with the golden file of that name."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("MLNET_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
