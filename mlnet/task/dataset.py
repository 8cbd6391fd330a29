"""Which file is read how: the dataset of a task definition."""

from __future__ import annotations

import math
import re
from typing import get_args

from mlnet.task import spellings
from mlnet.task.fields import Section, describe, expected, printable
from mlnet.task.keys import CSV_KEYS, DATASET_KEYS
from mlnet.task.problems import Mend
from mlnet.task.schema import (
    MAX_CLASSES,
    MAX_COLUMNS_NAMED,
    MAX_PARAMETERS,
    MAX_PATH,
    DatasetSpec,
    Decimal,
    Format,
    Scale,
    SourceSpec,
)
from mlnet.task.segments import SEGMENTS

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SHARE_TOLERANCE = 1e-6
"""Relative: 0.8 in 32 bits is a share of eight tenths, too."""


def read_dataset(ml: Section) -> DatasetSpec:
    """The section ``ml.dataset``."""
    section = ml.section("dataset", DATASET_KEYS)
    given: Format = section.choice("format", get_args(Format))
    kind: Format | None = given if section.sound("format") else None
    training, test = _shares(section)
    for key in CSV_KEYS:
        if kind not in (None, "CSV") and key in section:
            section.remove(key, f"only CSV has it, not {kind}")
    sha256 = None
    if "sha256" in section:
        sha256 = section.text("sha256", 4096).lower()
        alone = set(re.findall(r"\b[0-9a-f]{64}\b", sha256))
        if section.sound("sha256") and not _SHA256.fullmatch(sha256) and len(alone) == 1:
            # As with its name before it, or the file's behind it.
            (meant,) = alone
            section.wrong("sha256", f"found {describe(sha256)}", f"write {meant} alone", meant)
            sha256 = meant
        elif section.sound("sha256") and not _SHA256.fullmatch(sha256):
            found = f"{describe(sha256)} is not a SHA-256: it has {len(sha256)} characters"
            section.wrong("sha256", found, "64 hexadecimal digits, as sha256sum prints them")
    return DatasetSpec(
        format=given,
        training_set_size=training / SEGMENTS,
        test_set_size=test / SEGMENTS,
        source=_source(section, kind),
        sha256=sha256,
        scale=section.choice("scale", get_args(Scale), "auto"),
        classes=_names(section, "classes", MAX_CLASSES) or (),
        delimiter=_delimiter(section),
        header=_header(section),
        label_column=_label_column(section),
        ignore_columns=_names(section, "ignore-columns", MAX_COLUMNS_NAMED),
        category_columns=_names(section, "category-columns", MAX_COLUMNS_NAMED) or (),
        decimal=section.choice("decimal", get_args(Decimal)) if "decimal" in section else None,
        comment=_comment(section),
    )


def _shares(section: Section) -> tuple[int, int]:
    """Training and test share of the dataset in tenths, 1 to 9 each."""
    names = ("training-set-size", "test-set-size")
    given = [name for name in names if name in section]
    shares = dict.fromkeys(names, 1)
    for name in given:
        shares[name] = _share(section, name)
    if not section.sound(*given):
        return 1, 1
    if len(given) == 1:
        (other,) = set(names) - set(given)
        rest = (SEGMENTS - shares[given[0]]) / SEGMENTS
        section.value(other, mend=section.missing(other, rest, after=given[0]))
    elif not given:
        for name in names:
            section.value(name)
    training, test = (shares[name] for name in names)
    if len(given) == 2 and training + test != SEGMENTS:
        section.wrong(
            "test-set-size",
            f"{test / SEGMENTS} and a training-set-size of {training / SEGMENTS} do not sum to 1",
            f"write {1 - training / SEGMENTS:.1f}",
        )
    return training, test


def _share(section: Section, key: str) -> int:
    """A share of the dataset in tenths, 1 to 9."""
    value = given = section.value(key)
    fix = "a share in tenths such as 0.8, since the dataset is cut into ten segments"
    if isinstance(value, str):
        value = spellings.number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        section.wrong(key, f"found {describe(given)}", expected(given, f"a number: {fix}"))
        return 1
    for tenths in range(1, SEGMENTS):
        # 1 - 0.8 is 0.19999999999999996 in binary; nobody means anything else than 0.2 by it.
        if math.isclose(value, tenths / SEGMENTS, rel_tol=_SHARE_TOLERANCE):
            if isinstance(given, str):
                write = f"write {tenths / SEGMENTS}: a number stands without quotes"
                section.wrong(key, f"found {describe(given)}", write, tenths / SEGMENTS)
            return tenths
    near = ""
    if 0 < value < 1:
        tenths = min(max(round(value * SEGMENTS), 1), SEGMENTS - 1)
        near = f"; the nearest is {tenths / SEGMENTS}"
    elif 10 <= value <= 90 and value % 10 == 0:
        near = f"; write {value / 100:g} for {value:g} %"
    section.wrong(key, f"found {describe(given)}", f"expected {fix}; 0.1 to 0.9 are accepted{near}")
    return 1


def _source(dataset: Section, kind: Format | None) -> SourceSpec:
    value = dataset.value("source", None)
    if isinstance(value, str) and kind != "MNIST":
        fix = "write the key features below source, with the path as its value"
        dataset.wrong("source", f"found {describe(value)}", fix, {"features": value})
        return SourceSpec(value)
    source = dataset.section("source", ("features", "labels"))
    features = source.text("features", MAX_PATH)
    labels = source.text("labels", MAX_PATH) if "labels" in source else None
    if kind == "CSV" and labels is not None and source.sound("features", "labels"):
        if labels == features:
            source.remove(
                "labels",
                "a CSV dataset is a single file, which the key features already names",
                "remove the key; ml.dataset.label-column names the labels' column (default: the last one)",
            )
        else:
            fix = "remove the key and name ml.dataset.label-column"
            source.wrong("labels", "a CSV is one file", fix)
    if kind == "MNIST" and labels is None and source.sound():
        source.wrong("labels", "missing", "MNIST has a second file, with the labels: name it")
    return SourceSpec(features, labels)


def _delimiter(dataset: Section) -> str | None:
    value = dataset.value("delimiter", None)
    if value is None or value == "\t":
        return None if value is None else "\t"
    if (
        not isinstance(value, str)
        or len(value) != 1
        or not value.isprintable()
        or value.isalnum()
        or value in "\"'.+-"
    ):
        tab = "\t" if value in ("\\t", "tab", "TAB", "Tab") else Mend.NONE
        fix = 'expected a single character such as "," or ";"; for a tab, write "\\t" in double quotes'
        dataset.wrong("delimiter", f"found {describe(value)}", fix, tab)
        return None
    return value


def _header(dataset: Section) -> bool | None:
    """True, false, or None for ``auto``."""
    value = dataset.value("header", "auto")
    return None if value == "auto" else dataset.flag("header")


def _label_column(dataset: Section) -> str | int | None:
    if "label-column" not in dataset:
        return None
    value = dataset.value("label-column")
    if isinstance(value, int) and not isinstance(value, bool):
        return dataset.integer("label-column", -MAX_PARAMETERS, MAX_PARAMETERS)
    if not isinstance(value, str):
        what = "a column's name, or its position counted from 0"
        dataset.wrong("label-column", f"found {describe(value)}", expected(value, what))
        return None
    if dataset.value("header", "auto") is False:
        dataset.wrong("label-column", "a name needs a header", "write its position, or header: true")
    return dataset.text("label-column", MAX_PATH)


def _names(dataset: Section, key: str, most: int) -> tuple[str | int, ...] | None:
    """A list of texts and whole numbers without repetitions; None if the key is missing."""
    if key not in dataset:
        return None
    alone = dataset.value(key)
    if alone == [] and key != "classes":
        return ()
    if isinstance(alone, str | int) and not isinstance(alone, bool) and key != "classes":
        fix = "write it in square brackets: a list of columns"
        dataset.wrong(key, f"found {describe(alone)}", fix, [alone])
        return (alone,)
    found: list[str | int] = []
    for path, value in dataset.items(key, most):
        if isinstance(value, bool) or not isinstance(value, int | str):
            fix = expected(value, "a text or a whole number") + "; in quotes, anything is a text"
            dataset.problems.add(path, f"found {describe(value)}", fix)
        elif isinstance(value, str) and not (1 <= len(value) <= MAX_PATH and printable(value)):
            fix = f"expected 1 to {MAX_PATH} visible characters"
            dataset.problems.add(path, f"found {describe(value)}", fix)
        elif isinstance(value, int) and abs(value) > MAX_PARAMETERS:
            dataset.problems.add(
                path, f"found {describe(value)}", f"write a number of at most {MAX_PARAMETERS}"
            )
        elif value in found:
            dataset.problems.add(path, f"{describe(value)} is listed twice", "list each one once")
        else:
            found.append(value)
    return tuple(found)


def _comment(dataset: Section) -> str | None:
    if "comment" not in dataset:
        return None
    value = dataset.text("comment", 8)
    if value and (value.strip() != value or value[0].isalnum() or value[0] in "\"'.+-"):
        fix = 'expected the characters that begin a comment, such as "#" or "%"'
        dataset.wrong("comment", f"found {describe(value)}", fix)
    return value
