"""Why a text is not YAML, or not the YAML that its author sees, in words, and what was certainly meant."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from mlnet.errors import TaskProblem
from mlnet.task import spellings
from mlnet.task.keys import ALL_KEYS
from mlnet.task.model import METRICS
from mlnet.task.parser import examine, new_problems
from mlnet.util import yaml_survey
from mlnet.util.yaml12 import UNREADABLE, YamlError

MAX_FINDINGS = 100
_MAX_COLUMNS = 4
"""Indentations that are tried for a line: each try reads the whole text."""
_UNREAD = 10**6
_ODD = "\u00a0\u00ad\u1680\u2000-\u200f\u202f\u205f\u2060\u3000\ufeff"
"""Blanks that are none to YAML, and characters without width."""
_KEY = r"[ \t]*(?:-[ \t]+)?[A-Za-z][A-Za-z0-9_-]*"
_ODD_PLACES = re.compile(
    rf"^[ \t]*(?P<lead>[{_ODD}][ \t{_ODD}]*)(?=[^\s{_ODD}])"
    rf"|^[ \t]*-(?P<dash>[ {_ODD}]*[{_ODD}][ {_ODD}]*)(?=[^\s{_ODD}])"
    rf"|^{_KEY}(?P<key>[{_ODD}]+)(?=:)"
    rf"|^{_KEY}[ {_ODD}]*:(?P<gap>[ {_ODD}]*[{_ODD}][ {_ODD}]*)(?=[^\s{_ODD}])"
    rf"|(?P<comment>[{_ODD}]+)(?=#)"
    rf"|(?P<end>[{_ODD}]+)(?=[ \t\r]*$)"
)
_WINDOWS_PATH = re.compile(r'"((?:[A-Za-z]:\\|\\\\)[^"\n]*)"')
_CURLY = re.compile(
    "(?:(?<=[:,\\[{] )|(?<=- )|(?<=[\\[{]))"
    "(?:[\u201c\u201d\u201e]([^\u201c\u201d\n]*)[\u201c\u201d]|[\u2018\u2019\u201a]([^\u2018\u2019\n]*)[\u2018\u2019])"
    "(?=[ \t\r]*(?:$|[,\\]}]|#))"
)
_CURLY_KEY = re.compile(
    r"^[ \t]*(?:-[ ]+)?([\u201c\u201d\u2018\u2019]([A-Za-z0-9_-]+)[\u201c\u201d\u2018\u2019])[ ]*:"
)
_AFTER_QUOTE = re.compile(rf"""^{_KEY}:[ ]+(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')[ ]+([^\s#,\]}}:].*)$""")
_SIGN = re.compile(rf"^(?P<key>{_KEY})(?P<sign>:(?=\S)|[ \t]*\uff1a[ \t]*|[ \t]*:?=[ \t]*)(?=\S)")
_CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7}|\|{7})(?: .*)?\r?$")
_DASH = re.compile(r"^[ \t]*-(?P<name>[A-Za-z][A-Za-z_-]*)(?=[ \t]*(?::[ \t]|#|\r?$))")
_UNREADABLE = re.compile(f"{UNREADABLE.pattern}+")
_TAB = re.compile(r"^ *\t[ \t]*")


@dataclass(frozen=True)
class Edit:
    """A replacement of the characters from ``start`` to ``end`` of a text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Finding:
    """A problem of a text, and the edits after which the rest of it can be read."""

    problem: TaskProblem
    edits: tuple[Edit, ...] = ()

    @property
    def aligned(self) -> bool:
        """Whether what follows keeps its offsets."""
        return all(edit.end - edit.start == len(edit.text) for edit in self.edits)


def applied(text: str, edits: list[Edit]) -> str:
    """The text after edits. Of two that overlap, the first one counts."""
    parts, place = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if edit.start >= place:
            parts += [text[place : edit.start], edit.text]
            place = edit.end
    return "".join([*parts, text[place:]])


def surface(text: str) -> list[Finding]:
    """What is wrong with single lines, whatever the parser makes of them."""
    found: list[Finding] = []
    start = 0
    for number, line in enumerate(text.split("\n"), start=1):
        for problem, column, edit, certain in _line(line):
            place = Edit(start + edit.start, start + edit.end, edit.text)
            found.append(_finding(problem, number, column, place, certain=certain))
        start += len(line) + 1
        if len(found) >= MAX_FINDINGS:
            return found[:MAX_FINDINGS]
    return sorted(found + _tabs(text), key=lambda finding: finding.problem.line)[:MAX_FINDINGS]


def _finding(
    words: tuple[str, str], line: int, column: int, edit: Edit | None, *, certain: bool = True
) -> Finding:
    problem = TaskProblem("", words[0], words[1], line, column, certain)
    return Finding(problem, (edit,) if edit else ())


def _line(line: str) -> Iterator[tuple[tuple[str, str], int, Edit, bool]]:
    """Words, column, edit within the line, and whether it is certain."""
    bare = line.rstrip("\r")
    if bare.strip().startswith("```"):
        yield ("a Markdown code fence, which is not YAML", "remove it"), 1, Edit(0, len(bare), ""), True
        return
    if _CONFLICT.match(line):
        blank = Edit(0, len(bare), " " * len(bare))
        yield ("a merge conflict marker", "keep one side and remove the markers"), 1, blank, False
        return
    for bad in _UNREADABLE.finditer(bare):
        name = f"the character U+{ord(bad[0][0]):04X} may not stand in YAML"
        unseen = set(bad[0]) <= {"\ufeff"} or (set(bad[0]) == {"\0"} and not bare[bad.end() :].strip("\0"))
        yield (name, "remove it"), bad.start() + 1, Edit(*bad.span(), ""), unseen
    if bare.lstrip().startswith("#") or _UNREADABLE.search(bare):
        return
    for odd in _ODD_PLACES.finditer(bare):
        yield _odd(odd)
    if curly := _CURLY_KEY.match(bare):
        words = (f"YAML does not accept the quotation mark {curly[1][0]}", f"write {curly[2]}")
        yield words, curly.start(1) + 1, Edit(*curly.span(1), curly[2]), True
    for quoted in _CURLY.finditer(bare):
        inner = quoted[1] if quoted[1] is not None else quoted[2]
        straight = '"' + inner + '"' if "\\" not in inner and '"' not in inner else _single(inner)
        words = (
            f"to YAML, the quotation marks around {quoted[0][:40]} are part of the text",
            f"write {straight[:40]}",
        )
        yield words, quoted.start() + 1, Edit(*quoted.span(), straight), True
    for path in _WINDOWS_PATH.finditer(bare):
        if "\\" in path[1].replace("\\\\", ""):
            words = (
                "in double quotes a backslash begins an escape, so that this path is not what it looks like",
                f"put it in single quotes: {_single(path[1])[:80]}",
            )
            yield words, path.start() + 1, Edit(*path.span(), _single(path[1])), True
    yield from _signs(bare)


def _signs(bare: str) -> Iterator[tuple[tuple[str, str], int, Edit, bool]]:
    """What stands between a key and its value, a dash and its item, or behind a value."""
    if rest := _AFTER_QUOTE.match(bare):
        words = (
            "text behind the quotation mark that ends the value",
            "put all of it in quotes, or write # before it",
        )
        yield words, rest.start(1) + 1, Edit(*rest.span(1), " " * len(rest[1])), False
    if (sign := _SIGN.match(bare)) and _is_key(sign["key"]):
        key = sign["key"].lstrip(" \t-")
        words = (f"no colon and space after {key}", f"write {key}: and a space before the value")
        yield words, sign.start("sign") + 1, Edit(*sign.span("sign"), ": "), True
    if (dash := _DASH.match(bare)) and (_is_key(dash["name"]) or spellings.choice(dash["name"], METRICS)):
        words = (f"no space between the dash and {dash['name']}", f"write - {dash['name']}")
        yield words, dash.start("name"), Edit(dash.start("name"), dash.start("name"), " "), True


def _odd(odd: re.Match[str]) -> tuple[tuple[str, str], int, Edit, bool]:
    kind = str(odd.lastgroup)
    start, end = odd.span(kind)
    characters = [letter for letter in odd[kind] if letter not in " \t"]
    blanks = "".join(" " if unicodedata.category(letter) == "Zs" else "" for letter in odd[kind])
    letter = characters[0]
    name = unicodedata.name(letter, "unnamed").lower()
    instead = {"key": "", "end": "", "dash": blanks or " ", "gap": blanks or " ", "comment": blanks or " "}
    words = (
        f"a {name} (U+{ord(letter):04X}), which YAML does not accept as a space",
        "replace it with an ordinary space, or remove it",
    )
    # How wide an ideographic space looks depends on the editor.
    certain = not (kind == "lead" and "\u3000" in characters)
    return words, start + 1, Edit(start, end, instead.get(kind, blanks)), certain


def _single(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_key(text: str) -> bool:
    return _meant(text.lstrip(" \t-"))


@functools.lru_cache(maxsize=1024)
def _meant(key: str) -> bool:
    return spellings.key(key, ALL_KEYS) is not None


def _tabs(text: str) -> list[Finding]:
    """Lines that are indented by tabs. How wide they are meant is certain if all widths mean the same."""
    lines = text.split("\n")
    tabbed = [number for number, line in enumerate(lines) if _TAB.match(line)]
    if not tabbed:
        return []
    meant: dict[str, list[str]] = {}
    for width in (2, 4, 8):
        wide = [_TAB.sub(lambda tab: tab[0].expandtabs(width), line) for line in lines]  # noqa: B023
        try:
            survey = yaml_survey.survey("\n".join(wide))
        except YamlError:
            continue
        if not survey.errors:
            meant.setdefault(repr(survey.value), wide)
    wide = next(iter(meant.values()), [line.expandtabs(2) for line in lines])
    starts = list(itertools.accumulate((len(line) + 1 for line in lines), initial=0))
    edits = []
    for number in tabbed:
        start, content = starts[number], lines[number].lstrip(" \t")
        indent = len(lines[number]) - len(content)
        edits.append(Edit(start, start + indent, wide[number][: len(wide[number]) - len(content)]))
    more = f" (of {len(tabbed)} lines)" if len(tabbed) > 1 else ""
    words = f"a tab in the indentation{more}: YAML takes spaces only"
    first = tabbed[0] + 1
    column = lines[tabbed[0]].index("\t") + 1
    problem = TaskProblem("", words, "indent by spaces", first, column, certain=len(meant) == 1)
    return [Finding(problem, tuple(edits))]


def explain(text: str, error: YamlError) -> Finding:
    """The likely cause of what the parser says, and how the rest can be read."""
    lines = text.split("\n")
    if "text is empty" in error.problem:
        fix = "write one as in the example, client-task-definition.yaml"
        return Finding(TaskProblem("", "not accepted as YAML: the text is empty", fix))
    if not 1 <= error.line <= len(lines) + 1:
        return Finding(TaskProblem("", f"not accepted as YAML: {error.problem}"))
    if "second document" in error.problem:
        return _second_document(text, lines, error)
    for cause in (_value_sign, _unclosed, _colon, _two_colons, _indentation):
        if found := cause(lines, error):
            return found
    line = min(error.line, len(lines))
    if "scanning a simple key" in error.problem and error.opened:
        line = error.opened
    ours = not re.search("while |mapping values|did not find|could not find|found ", error.problem)
    words = (f"not accepted as YAML: {error.problem}", _hint(lines[line - 1], "" if ours else _QUOTES))
    return _blanked(lines, line, error.column, words)


def _second_document(text: str, lines: list[str], error: YamlError) -> Finding:
    """What follows is not read; where nothing does, the line that begins it goes."""
    start = _start(lines, error.line)
    rest = re.sub(r"(?m)^(?:---|\.\.\.)|#.*$", "", text[start:])
    fix = "keep one document in the file" if rest.strip() else "remove the line"
    words = (f"not accepted as YAML: {error.problem}", fix)
    return _finding(words, error.line, error.column, Edit(start, len(text), ""), certain=not rest.strip())


def other_language(text: str) -> str:
    """What a text is in place of YAML; empty if it may be YAML."""
    first = next(
        (line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")), ""
    )
    return next((what for what, begins in _OTHERS.items() if begins.match(first)), "")


_OTHERS = {
    "XML or a web page": re.compile(r"\s*<[?!A-Za-z]"),
    "TOML or an INI file": re.compile(r"\[+[A-Za-z][\w.-]*\]+\s*$"),
    "a program in Python": re.compile(r"(import [\w.]+|from [\w.]+ import .*)\s*$"),
}
_QUOTES = "put a text with : # , [ ] { } or quotes in it in single quotes"


def _hint(line: str, other: str) -> str:
    if "{{" in line or "${" in line:
        return "is this a placeholder that was not filled in? Write the value instead"
    if "\\" in line and '"' in line:
        return "in double quotes a backslash begins an escape: use single quotes"
    return other


def _blanked(lines: list[str], line: int, column: int, words: tuple[str, str]) -> Finding:
    """The rest is read as if the line were blank."""
    content = lines[line - 1].rstrip("\r")
    if not content.strip():
        return _finding(words, line, column, None, certain=False)
    start = _start(lines, line)
    edit = Edit(start, start + len(content), " " * len(content))
    return _finding(words, line, column, edit, certain=False)


def _start(lines: list[str], line: int) -> int:
    return sum(len(before) + 1 for before in lines[: line - 1])


def _value_sign(lines: list[str], error: YamlError) -> Finding | None:
    """A plain value that begins with a sign of YAML's own."""
    told = ("cannot start any token", "scanning an alias", "scanning an anchor")
    if not any(words in error.problem for words in told) or error.line > len(lines):
        return None
    line = lines[error.line - 1].rstrip("\r")
    found = re.match(r"^.*?(?:: +|- +)([@`%*&])", line)
    if not found:
        return None
    at = found.start(1)
    value = re.sub(r"[ \t]+#.*|[ \t]+$", "", line[at:])
    words = (f"a value cannot begin with {found[1]}", f"put it in quotes: {_single(value)[:60]}")
    start = _start(lines, error.line) + at
    return _finding(words, error.line, at + 1, Edit(start, start + len(value), _single(value)))


def _unclosed(lines: list[str], error: YamlError) -> Finding | None:
    """A quote or bracket that is open when the text or the block ends."""
    flow = "',' or" in error.problem or "flow node" in error.problem
    if flow:
        what, line = "bracket", error.opened
        while line > len(lines) or (line > 1 and not re.search(r"[\[{]", lines[line - 1])):
            line -= 1
    elif "quoted scalar" in error.problem and "end of stream" in error.problem:
        what, line = "quote", error.opened
    else:
        upto = min(error.line, len(lines))
        odd = [
            number
            for number in range(max(1, upto - 20), upto + 1)
            if re.search(r":[ ]+(['\"])(?:(?!\1).)*$", lines[number - 1])
        ]
        if not odd:
            return None
        what, line = "quote", odd[0]
    if not 1 <= line <= len(lines):
        return None
    words = (f"not accepted as YAML: a {what} that opens on this line is not closed", f"close the {what}")
    found = re.search(r"[\[{]" if flow else r"['\"]", lines[line - 1])
    return _blanked(lines, line, found.start() + 1 if found else 1, words)


def _colon(lines: list[str], error: YamlError) -> Finding | None:
    """A line with a key and a value, and no colon between them."""
    candidates = [error.line, error.opened, *range(error.line - 1, max(0, error.line - 4), -1)]
    for line in candidates:
        if not 1 <= line <= len(lines):
            continue
        found = re.match(rf"^({_KEY})(?:[ \t]+(?=[^\s:#=])|[ \t\r]*$)", lines[line - 1])
        if found and _is_key(found[1]):
            key = found[1].lstrip(" \t-")
            words = (f"not accepted as YAML: no colon after {key}", f"write {key}: with a colon")
            start = _start(lines, line) + found.end(1)
            return _finding(words, line, found.end(1) + 1, Edit(start, start, ":"))
    return None


def _two_colons(lines: list[str], error: YamlError) -> Finding | None:
    """``a: b: c``, or a value with a colon and a blank in it."""
    if "mapping values are not allowed" not in error.problem or error.line > len(lines):
        return None
    line = lines[error.line - 1]
    before = line[: error.column - 1]
    if ": " not in before:
        return None
    words = (
        "not accepted as YAML: a second key in one line, or a value with a colon in it",
        "write one key per line; put a value that contains a colon in single quotes",
    )
    return _blanked(lines, error.line, error.column, words)


def _indentation(lines: list[str], error: YamlError) -> Finding | None:
    """A line that begins in no column of those above it."""
    told = re.search("mapping values|did not find expected|could not find expected", error.problem)
    if not told or re.search("alias|anchor|tag|directive", error.problem) or error.line > len(lines):
        return None
    line = lines[error.line - 1]
    indent = len(line) - len(line.lstrip(" "))
    above: list[tuple[int, int]] = []
    for number, before in enumerate(lines[: error.line - 1], start=1):
        content = before.lstrip(" ")
        if content.strip() and not content.startswith("#"):
            column = len(before) - len(content)
            nested = len(re.match(r"(?:- +)*", content)[0])  # type: ignore[index] # it matches nothing, too
            above = [place for place in above if place[0] < column]
            above += [(column, number)] + ([(column + nested, number)] if nested else [])
    if not line.strip() or not above or indent in [column for column, _ in above]:
        return None
    named = " and ".join(f"column {column + 1} (line {number})" for column, number in above[:-4:-1])
    here = f"this line starts in column {indent + 1}, but the lines above it start in {named}"
    words = (f"not accepted as YAML: {here}", "indent it like the keys that it belongs with")
    start = _start(lines, error.line)
    near = sorted({column for column, _ in above}, key=lambda column: (abs(column - indent), column))
    edits = [Edit(start, start + indent, " " * column) for column in near[:_MAX_COLUMNS]]
    scores = [_score(applied("\n".join(lines), [edit])) for edit in edits]
    best = min(range(len(edits)), key=lambda index: scores[index])
    only = scores[best] < _UNREAD and scores.count(scores[best]) == 1
    return _finding(words, error.line, indent + 1, edits[best], certain=only)


def _score(text: str) -> int:
    """How wrong a text is, to compare the places where a line may belong."""
    try:
        survey = yaml_survey.survey(text)
    except YamlError as error:
        return _UNREAD + 10**6 - error.line
    problems = new_problems()
    examine(survey.value, problems)
    return len(survey.errors) + len(problems.found)
