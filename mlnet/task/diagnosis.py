"""Everything that is wrong with the text of a definition at once, and the text with certain mends."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from dataclasses import dataclass

from mlnet.errors import TaskError, TaskProblem
from mlnet.task import parser
from mlnet.task.problems import MAX_PROBLEMS, Mend
from mlnet.task.schema import TaskDefinition
from mlnet.task.syntax import Edit, Finding, applied, explain, other_language, surface
from mlnet.util import yaml12, yaml_survey, yaml_writer
from mlnet.util.yaml12 import YamlError
from mlnet.util.yaml_survey import Span, Survey

MAX_ITEMS = 4096
"""Keys and values of a text that is diagnosed, a quarter of what is read: each costs more, since errors do
not end the reading."""
_FIXES = {
    "appears twice": "remove one",
    "does not fit 64 bits": "write a smaller number, or put a text in quotes",
    "is out of range": "write a number that is nearer to 0",
}
"""What to do about a refusal of the reader, by its words."""
_ROUNDS = 20
"""Syntax errors that are read past, and times that a text is mended: each one may uncover others."""


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a text.

    Attributes:
        errors: in the order of the text; none if it is a definition.
        edits: those corrections that can be made at once. After them, others may be possible.
    """

    errors: tuple[TaskProblem, ...]
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Mended:
    """A text after every certain correction.

    Attributes:
        text: what it is now; the same as before if nothing was certain.
        mended: what was corrected.
        left: what has to be corrected by hand; none if the text is a definition.
    """

    text: str
    mended: tuple[TaskProblem, ...]
    left: tuple[TaskProblem, ...]


def mend(text: str) -> Mended:
    """Make every certain correction. What is mended once stays as it is if mended again."""
    text = text.removeprefix("\ufeff")
    mended: list[TaskProblem] = []
    diagnosis = diagnose(text)
    for _ in range(_ROUNDS):
        after = applied(text, list(diagnosis.edits))
        if after == text:
            break
        before, text = diagnosis, after
        diagnosis = diagnose(text)
        left = {(error.path, error.problem, error.line) for error in diagnosis.errors}
        mended += [
            error
            for error in before.errors
            if error.certain and (error.path, error.problem, error.line) not in left
        ]
    return Mended(text, tuple(mended), diagnosis.errors)


def read(text: str) -> TaskDefinition:
    """The definition that is in a text; raises the first error, YamlError or TaskError."""
    plain = yaml12.load(
        text.removeprefix("\ufeff"), max_bytes=yaml12.MAX_BYTES, max_items=MAX_ITEMS, nonfinite=True
    )
    return parser.read(plain, most=1)


def diagnose(text: str) -> Diagnosis:
    """Find every error of a text, as far as one can see past the others."""
    text = text.removeprefix("\ufeff")
    with contextlib.suppress(YamlError, TaskError):
        read(text)
        return Diagnosis((), ())
    if len(text.encode(errors="surrogatepass")) > yaml12.MAX_BYTES:
        return Diagnosis(
            (TaskProblem("", f"not accepted as YAML: longer than {yaml12.MAX_BYTES} bytes"),), ()
        )
    if other := other_language(text):
        fix = "write it in YAML, as in the example, client-task-definition.yaml"
        return Diagnosis((TaskProblem("", f"the text is {other}, not a definition", fix),), ())
    findings = surface(text)
    working = applied(text, [edit for finding in findings for edit in finding.edits])
    survey, working = _read_past(working, findings)
    certain = [finding for finding in findings if finding.problem.certain]
    edits = [edit for finding in certain for edit in finding.edits]
    errors = [finding.problem for finding in findings]
    if survey is not None:
        lossy = len(certain) < len(findings)
        found, mends = _schema(working, survey, lossy=lossy)
        errors += found
        if not certain and all(finding.aligned for finding in findings):
            edits = mends
    errors.sort(key=lambda error: (error.line or 10**6, error.column))
    return Diagnosis(tuple(errors[:MAX_PROBLEMS]), tuple(edits))


def _read_past(working: str, findings: list[Finding]) -> tuple[Survey | None, str]:
    """Parse a text, reading past syntax errors, which are added to the findings."""
    shifted = not all(finding.aligned for finding in findings)
    for _ in range(_ROUNDS):
        try:
            return yaml_survey.survey(working, max_items=MAX_ITEMS), working
        except YamlError as error:
            if not working.strip() and findings:
                break
            finding = explain(working, error)
        if any(known.problem == finding.problem for known in findings):
            break
        after = applied(working, list(finding.edits))
        if shifted and finding.edits:
            # The offsets are those of a text that is not the author's: it is mended in the next round.
            problem = (
                dataclasses.replace(finding.problem, certain=False)
                if not finding.problem.certain
                else finding.problem
            )
            findings.append(Finding(problem, ()))
        else:
            findings.append(finding)
            shifted = shifted or not finding.aligned
        if after == working:
            break
        working = after
    return None, working


def _schema(text: str, survey: Survey, *, lossy: bool) -> tuple[list[TaskProblem], list[Edit]]:
    """What is wrong with the values, and the edits that mend it.

    Args:
        text: in which the spans are.
        survey: its content.
        lossy: lines of it could not be read, so that nothing can be said of what is missing.
    """
    errors: list[TaskProblem] = []
    edits: list[Edit] = []
    refused = {error.path for error in survey.errors}
    for error in survey.errors:
        removal = (
            _removal(text, survey, survey.repeated[error.path]) if error.path in survey.repeated else None
        )
        edits += removal or []
        path = error.path.removesuffix(" (again)")
        words, _, fix = error.problem.partition(": ")
        fix = fix or next((fix for told, fix in _FIXES.items() if told in words), "write a plain value")
        errors.append(TaskProblem(path, words, fix, error.line, error.column, removal is not None))
    problems = parser.new_problems()
    parser.examine(survey.value, problems)
    for problem, mend in problems.found:
        missing = problem.problem in ("missing", "found nothing") or problem.path == ""
        if problem.path in refused or (lossy and missing):
            continue
        made = _edits(text, survey, mend) if mend else None
        edits += made or []
        line, column = _place(survey, problem.path)
        errors.append(dataclasses.replace(problem, line=line, column=column, certain=bool(made)))
    return errors, edits


def _place(survey: Survey, path: str) -> tuple[int, int]:
    """Line and column of an entry, or of the one in which it is missing."""
    while path and path not in survey.spans:
        path = re.sub(r"(?:\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", path)
    span = survey.spans.get(path)
    return (span.line, span.column) if span else (0, 0)


def _edits(text: str, survey: Survey, mend: Mend) -> list[Edit] | None:
    """A mend as edits of the text; None if it cannot be told how."""
    if mend.after:
        return _insertion(text, survey, mend)
    span = survey.spans.get(mend.path)
    if span is None:
        return None
    if not mend.entries:
        return _removal(text, survey, span)
    if len(mend.entries) == 1:
        (key, value), edits = mend.entries[0], []
        if key is not Mend.SAME:
            if span.key is None:
                return None
            edits.append(Edit(*span.key, str(key)))
        if value is not Mend.KEEP:
            # That of a block (| or >) ends behind its line.
            end = span.start + len(text[span.start : span.end].rstrip())
            edits.append(Edit(span.start, end, _written(value)))
        return edits
    if span.key is None or "\n" in text[span.key[0] : span.end]:
        return None
    between = ", " if span.flow else _newline(text) + " " * (span.column - 1)
    entries = between.join(f"{key}: {_written(value)}" for key, value in mend.entries)
    return [Edit(span.key[0], span.end, entries)]


def _insertion(text: str, survey: Survey, mend: Mend) -> list[Edit] | None:
    span = survey.spans.get(mend.after)
    if span is None or span.flow or span.key is None:
        return None
    key, value = mend.entries[0]
    entry, indent = f"{key}: {_written(value)}", " " * (span.column - 1)
    start = text.rfind("\n", 0, span.key[0]) + 1
    if span.style is None and not text[start : span.key[0]].strip(" "):
        return [Edit(start, start, f"{indent}{entry}{_newline(text)}")]
    end = _line_end(text, span.end)
    return [Edit(end, end, f"{_newline(text)}{indent}{entry}")]


def _removal(text: str, survey: Survey, span: Span) -> list[Edit] | None:
    """Take an entry out, with its lines if they hold nothing else."""
    start = span.key[0] if span.key else span.start
    if span.flow:
        after = re.compile(r"\s*,\s*").match(text, span.end)
        if after:
            return [Edit(start, after.end(), "")]
        before = re.search(r",?\s*$", text[:start])
        return [Edit(before.start() if before else start, span.end, "")]
    begin, end = text.rfind("\n", 0, start) + 1, _line_end(text, span.end)
    if not re.fullmatch(r"[ \t]*(?:#[^\n]*)?\r?", text[span.end : end]):
        return None
    prefix = text[begin:start]
    if not prefix.strip() if span.key else prefix.strip() == "-":
        return [Edit(begin, min(_next_line(text, end), len(text)), "")]
    # The first key of an item: the next one takes its place behind the dash.
    later = [other.key[0] for other in survey.spans.values() if other.key and other.key[0] > span.end]
    following = min(later, default=None)
    if following is None or span.key is None:
        return None
    column = following - text.rfind("\n", 0, following) - 1
    alone = re.fullmatch(r"(?:\s|#[^\n]*\n)*", text[span.end : following])
    return [Edit(start, following, "")] if alone and column == span.column - 1 else None


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    end = len(text) if end < 0 else end
    return end - 1 if end > place and text[end - 1] == "\r" else end


def _next_line(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end + 1


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _written(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return yaml_writer.dump_block(value).rstrip("\n")
