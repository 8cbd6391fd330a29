"""Every message of the package that somebody may read, and where a test states it.

A *message* is a text of at least two words that stands in the code, or any text of a ``raise``; docstrings
are none. It is written with ``{}`` for each part that is filled in. A message is *covered* by a test that
states it in an ``assert``, in the values of ``pytest.mark.parametrize``, as a ``match=``, in a module of
``tests/unit/messages`` or in a golden file that a test compares: as a whole, or a part of it that no other
message has. So a change of words shows, and a new message needs a case.

Messages for which no case is practical stand in ``unreached.txt`` beside the tables, each below a line that
begins with ``#`` and says why.

``python tests/support/message_inventory.py`` prints each message with the place of its case; with ``--write``
it first drops from ``unreached.txt`` what no longer exists, or has a case by now.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnet.errors import every_kind

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "mlnet"
TABLES = TESTS / "unit" / "messages"
UNREACHED = TABLES / "unreached.txt"

NOT_READ = {
    "v1": "generated",
    "simulation": "the words of its traces and counterexamples are for those who change the protocol",
    "store/config.py": "the configuration of a Redis server",
    "kernels": "errors of arguments, for those who call the kernels",
}
"""Parts of the package whose texts are no messages, and why; what they raise of our own errors still is."""
NEVER_SHOWN = ("debug", "compile", "getLogger", "import_module")
"""Functions whose arguments nobody reads: the package never shows its log below ``warning``."""
SHORTEST_PART = 12
"""Characters of a part that tells a message from others."""
_OURS = frozenset(kind.__name__ for kind in every_kind())
_LIBRARIES = ("Muxed", "Multiselect", "Swarm", "OpenConnection", "NotImplemented", "Assertion", "Attribute")
"""Errors for libraries, which show them to nobody."""
_PERCENT = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[sdrgf]")
_FIELD = "{}"


@dataclass(frozen=True, order=True)
class Message:
    """A text with ``{}`` for what is filled in.

    Attributes:
        file: of the package, relative to it.
        text: with single blanks.
    """

    file: str
    text: str

    @property
    def longest(self) -> str:
        """The longest part that is always there, by which it is looked for."""
        return max(self.text.split(_FIELD), key=len)

    def is_in(self, text: str) -> bool:
        """Whether the whole message stands in a longer text."""
        return self.longest in text and _pattern(self.text).search(text) is not None


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    before = r"(?<!\w)" if text[0].isalnum() else ""
    after = r"(?!\w)" if text[-1].isalnum() else ""
    return re.compile(before + ".*?".join(map(re.escape, text.split(_FIELD))) + after, re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """A text that a test states, and where."""

    text: str
    place: str


def _single_blanks(text: str) -> str:
    return " ".join(text.split())


def _text(node: ast.AST, fill: str) -> str | None:
    """The text of a string, with what it is filled with."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else fill for part in node.values)
    return None


def _called(function: ast.AST) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _raised(tree: ast.AST) -> Iterator[ast.Call]:
    """The errors that are made where they are raised."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield node.exc


def _hidden(tree: ast.AST) -> set[int]:
    """Strings that are no texts of their own, or that nobody reads."""
    hidden: set[int] = set()
    for node in ast.walk(tree):
        inner: Sequence[ast.AST] = ()
        if isinstance(node, ast.Expr):
            inner = [node.value] if isinstance(node.value, ast.Constant) else ()
        elif isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.FormattedValue)]
            inner = [part for part in node.values if isinstance(part, ast.Constant)]
            inner = [*inner, *(part.format_spec for part in parts if part.format_spec)]
        elif isinstance(node, ast.Call) and _called(node.func) in NEVER_SHOWN:
            inner = [inside for argument in node.args for inside in ast.walk(argument)]
        hidden.update(map(id, inner))
    for error in _raised(tree):
        if _called(error.func).startswith(_LIBRARIES):
            hidden.update(map(id, ast.walk(error)))
    return hidden


def _strings(tree: ast.AST, hidden: set[int], fill: str) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        text = None if id(node) in hidden else _text(node, fill)
        if text is not None:
            yield node, text


def _of_file(path: Path) -> Iterator[Message]:
    file = path.relative_to(PACKAGE).as_posix()
    skipped = any(file == part or file.startswith(f"{part}/") for part in NOT_READ)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ours = [error for error in _raised(tree) if _called(error.func) in _OURS]
    raised = {id(inner) for error in ours for inner in ast.walk(error)}
    for node, found in _strings(tree, _hidden(tree), _FIELD):
        text = _single_blanks(_PERCENT.sub(_FIELD, found))
        words = len(re.findall(r"[A-Za-z]{2,}", text.replace(_FIELD, " ")))
        is_prose = " " in text and words > 1 and not skipped
        if is_prose or (words and id(node) in raised):
            yield Message(file, text)


def messages() -> list[Message]:
    """All messages of the package, in the order of their files."""
    return sorted({message for path in PACKAGE.rglob("*.py") for message in _of_file(path)})


def _stating(tree: ast.AST) -> Iterator[ast.AST]:
    """The parts of a test that state what comes of it."""
    for node in ast.walk(tree):
        is_match = isinstance(node, ast.keyword) and node.arg == "match"
        is_table = isinstance(node, ast.Call) and _called(node.func) == "parametrize"
        if isinstance(node, ast.Assert) or is_match or is_table:
            yield node


def _of_test(path: Path) -> Iterator[Statement]:
    file = path.relative_to(TESTS.parent).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = _hidden(tree)
    for stating in [tree] if path.is_relative_to(TABLES) else _stating(tree):
        for node, text in _strings(stating, hidden, "(...)"):
            line = getattr(node, "lineno", 0)
            if " " in text:
                yield Statement(_single_blanks(_unescaped(text)), f"{file}:{line}")


def _unescaped(text: str) -> str:
    """A pattern of ``match=`` as the text that it stands for."""
    return re.sub(r"\\([^\w\s])", r"\1", text)


def statements() -> list[Statement]:
    """Every text that a test states."""
    tests = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    found = [statement for path in sorted(tests) for statement in _of_test(path)]
    for path in sorted(TESTS.glob("**/golden/*.txt")):
        place = path.relative_to(TESTS.parent).as_posix()
        found += [Statement(_single_blanks(text), place) for text in _entries(path)]
    return found


def _entries(path: Path) -> list[str]:
    """What a golden file states: the cases of a table, the lines of a dialogue."""
    text = path.read_text(encoding="utf-8")
    if not path.is_relative_to(TABLES):
        return text.splitlines()
    return ["\n".join(line for line in part.splitlines() if line[:3] != "## ") for part in text.split("\n\n")]


def places(wanted: Sequence[Message], stated: Sequence[Statement]) -> dict[Message, str]:
    """Where each covered message is stated, as a whole if anywhere."""
    whole = "\0".join(statement.text for statement in stated)
    parts = [statement for statement in stated if _is_part(statement)]
    found: dict[Message, str] = {}
    for message in wanted:
        where = ""
        if message.longest in whole:
            where = next((statement.place for statement in stated if message.is_in(statement.text)), "")
        where = where or next((f"in part: {part.place}" for part in parts if part.text in message.text), "")
        if where:
            found[message] = where
    return found


def _is_part(statement: Statement) -> bool:
    """Whether no other message is likely to contain the text."""
    return " " in statement.text and len(statement.text) >= SHORTEST_PART


def listed(path: Path) -> dict[str, str]:
    """The messages of a list, and the heading that each stands below."""
    entries: dict[str, str] = {}
    heading = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            heading = line[2:]
        elif line:
            entries[line] = heading
    return entries


def _write_list(path: Path, entries: Mapping[str, Sequence[str]]) -> None:
    parts = ["\n".join([f"# {heading}", *sorted(set(texts))]) for heading, texts in entries.items() if texts]
    path.write_text("\n\n".join(parts) + "\n" if parts else "", encoding="utf-8")


def write() -> None:
    """Write the list anew, of what cannot have a case and still exists."""
    everything = messages()
    covered = {message.text for message in places(everything, statements())}
    wanting = {message.text for message in everything} - covered
    unreached: dict[str, list[str]] = defaultdict(list)
    for text, why in listed(UNREACHED).items():
        if text in wanting:
            unreached[why].append(text)
    _write_list(UNREACHED, unreached)


def main() -> None:
    """Print each message and its case."""
    if "--write" in sys.argv[1:]:
        write()
    everything = messages()
    done, reasons = places(everything, statements()), listed(UNREACHED)
    for message in everything:
        where = done.get(message) or reasons.get(message.text) or "no case yet"
        sys.stdout.write(f"{message.file}: {message.text}\n    {where}\n")
    left = sum(message not in done and message.text not in reasons for message in everything)
    totals = f"{len(everything)} messages, {len(done)} with a case, {len(reasons)} with a reason, {left} left"
    sys.stdout.write(f"{totals}\n")


if __name__ == "__main__":
    main()
