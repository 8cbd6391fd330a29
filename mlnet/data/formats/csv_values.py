"""Values of a table: numbers, missing ones, and those that mean a number or a date and are written in
another way."""

from __future__ import annotations

import re
from typing import NamedTuple

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
_MISSING = frozenset(
    ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "--", "missing", "\\n", "<na>", "nat")
)


def is_missing(value: str) -> bool:
    """Whether a value says that the value is missing."""
    return value.strip().lower() in _MISSING


def is_number(value: str, decimal: str = ".") -> bool:
    """Whether a value is a finite decimal number."""
    value = value.strip()
    return bool(NUMBER.fullmatch(value) or (decimal == "," and COMMA_NUMBER.fullmatch(value)))


class Spelling(NamedTuple):
    """How a value is written.

    Attributes:
        problem: what it is, to follow the value.
        fix: what to write in its place.
        certain: nobody writes a category so.
    """

    problem: str
    fix: str
    certain: bool = True


_TIME = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(\s*[AaPp]\.?[Mm]\.?)?"
_ZONE = r"(\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
_MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?)\.?"
)
_DAY = r"(mon|tues?|wed(nes)?|thu(rs)?|fri|sat(ur)?|sun)(day)?\.?"
_DATES = "|".join(
    (
        r"\d{4}[-/\s]?Q[1-4]",
        r"(1\d|20)\d\d[-/.](0?[1-9]|1[0-2])([-/.]\d{1,2})?",
        r"\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})",
        rf"\d{{1,2}}[-\s.]*{_MONTH}([-\s,]*(\d{{4}}|\d{{2}}))?",
        rf"{_MONTH}[-\s]*\d{{1,2}}(st|nd|rd|th)?[-\s,]*\d{{4}}",
        rf"{_MONTH}[-\s]*\d{{4}}",
    )
)
_MONEY = r"([$\u20ac\u00a3\u00a5\u20b9]|\b(USD|EUR|GBP|CHF|JPY|INR)\b)"
_GROUPED = (
    r"\d{1,3}(,\d{3})+(\.\d*)?|\d{1,3}(,\d{2})+,\d{3}(\.\d*)?|\d{1,3}(\.\d{3})+,\d*|\d{1,3}(\.\d{3}){2,}"
    r"|\d{1,3}(['_\u2019\u00a0\u202f ]\d{3})+([.,]\d*)?"
)
_UNIT = r"(\u00b0(\s*[CFK])?|[munkcd]?m|[\u00b5mk]?g|[mc]?l|[num]s|min|[kMG]?Hz|[kMGT]i?B|k?Wh?|mph|km/h)"
_PLAIN = r"\d+([.,]\d*)?|[.,]\d+"
_LONGEST = 80
"""Characters of a number, date or amount with all that may stand around it; the expressions below are tried
on nothing longer."""
_SIGN = "[-+\u2212\u2013]?"
_NUMBER = rf"({_GROUPED}|{_PLAIN})"

_DATE = Spelling(
    "is a date or a time",
    "write numbers, such as the days since a first day, or year, month and day as columns of their own",
)
_KINDS: tuple[tuple[re.Pattern[str], Spelling], ...] = (
    (re.compile(rf"({_DAY},?\s*)?({_DATES})([T\s,]+{_TIME})?{_ZONE}|{_TIME}{_ZONE}", re.IGNORECASE), _DATE),
    (
        re.compile(rf"{_SIGN}\s*{_NUMBER}\s*%"),
        Spelling("is a percentage", "write the number alone, without the percent sign"),
    ),
    (
        re.compile(rf"\(?{_SIGN}\s*({_MONEY}\s*{_SIGN}\s*{_NUMBER}|{_NUMBER}\s*{_MONEY})\)?", re.IGNORECASE),
        Spelling("is an amount of money", "write the number alone, without the currency"),
    ),
    (
        re.compile(rf"{_SIGN}({_GROUPED})"),
        Spelling(
            "is a number with marks between its thousands",
            "write the number without them, such as 1234.5",
        ),
    ),
    (
        re.compile(rf"[\u2212\u2013]\s*{_NUMBER}"),
        Spelling("begins with a dash that is no minus sign", "write the hyphen (-) of the keyboard"),
    ),
    (
        re.compile(rf"['`\u2018\u2019\u201c\u201d]\s*{_SIGN}{_NUMBER}\s*['`\u00b4\u2018\u2019\u201c\u201d]?"),
        Spelling("is a number in quotation marks that a CSV does not know", "remove them"),
    ),
    (
        re.compile(r"[-+]?inf(inity)?|[-+]?1\.#(inf|ind|qnan|snan)0*|\*{2,}", re.IGNORECASE),
        Spelling(
            "stands for a number that could not be computed or written", "correct it, or remove the row"
        ),
    ),
    (
        re.compile(rf"[<>\u2264\u2265~\u2248]=?\s*{_SIGN}{_NUMBER}"),
        Spelling("is a bound of a number", "write a number, such as the bound itself", certain=False),
    ),
    (
        re.compile(rf"{_SIGN}{_NUMBER}\s*[KMB]"),
        Spelling("is a number with a unit", "write the whole number", certain=False),
    ),
    (
        re.compile(rf"{_SIGN}\d+\.\d+\u00b0?\s*[NSEW]"),
        Spelling("is a coordinate", "write degrees as decimal numbers, south and west with a minus sign"),
    ),
    (
        re.compile(rf"\(?{_SIGN}({_PLAIN})\s*[-+]\s*({_PLAIN})[ij]\)?"),
        Spelling("is a complex number", "write its real and its imaginary part as columns of their own"),
    ),
    (
        re.compile(r"\d+\s*/\s*\d+"),
        Spelling("is a fraction", "write it as a decimal number", certain=False),
    ),
    (
        re.compile(rf"\({_NUMBER}\)"),
        Spelling("is a negative number as accountants write it", "write it with a minus sign", certain=False),
    ),
    (
        re.compile(rf"{_SIGN}{_NUMBER}(\s*{_UNIT}|\s+[^\W\d]{{1,4}}[23\u00b2\u00b3]?(/[^\W\d]{{1,3}})?)"),
        Spelling("is a number with a unit", "write the number alone"),
    ),
    (
        re.compile(rf"(?=.*[^\x00-\x7f]){_SIGN}{_NUMBER}"),
        Spelling("is a number in other digits than 0 to 9", "write these"),
    ),
    (
        re.compile(rf"{_SIGN}\d+\.?\d*[dD][-+]?\d+"),
        Spelling("is a number of Fortran", "write E in place of D"),
    ),
    (
        re.compile(rf"{_SIGN}\d+\.\d*[fFdDlL]"),
        Spelling("is a number of a programming language", "write it without the letter"),
    ),
    (
        re.compile(r"0[xX][0-9a-fA-F]+"),
        Spelling("is a hexadecimal number", "write it as a decimal number"),
    ),
    (
        re.compile(r"[\[({].*[\])}]", re.DOTALL),
        Spelling("is a list", "write a column for each of its values", certain=False),
    ),
    (
        re.compile(r"#(REF!|DIV/0!|VALUE!|NAME\?|NUM!|NULL!)", re.IGNORECASE),
        Spelling("is an error of a spreadsheet", "correct its cell"),
    ),
    (
        re.compile(r"=.+"),
        Spelling("is a formula", "save the table with values in place of formulas"),
    ),
)


def spelling(value: str) -> Spelling | None:
    """What a value is that means a number or a date but is not written as a number; None for other texts.

    Args:
        value: without blanks around it.
    """
    if len(value) > _LONGEST:
        return None
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(value)), None)
