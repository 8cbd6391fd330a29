"""Columns of categories: found where that is sure, encoded one-hot, and alike in training and afterwards."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from support.datasets import definition

from mlnet.data import Dataset, rows, split
from mlnet.data.formats.csv_categories import UnknownCategory
from mlnet.data.formats.csv_values import spelling
from mlnet.data.schema import from_json
from mlnet.data.table import DatasetLimits
from mlnet.errors import DataError

ROWS = 40
HEADER = "sex,x,island,y"
SEXES, ISLANDS = ["male", "female"], ["Torgersen", "Biscoe", "Dream"]


def cut(
    directory: Path, text: str, outputs: int = 2, *, limits: DatasetLimits | None = None, **keys: Any
) -> Dataset:
    (directory / "data.csv").write_text(text, encoding="utf-8", newline="")
    layers = [{"id": 1, "type": "Dense", "nodes": outputs, "activation": "Linear"}]
    dataset = {"format": "CSV", "source": {"features": "data.csv"}, **keys}
    return split(definition(dataset=dataset, layers=layers), directory, directory, limits)


def trained_on(dataset: Dataset) -> list[tuple[float, ...]]:
    """The rows of all segments, label last, sorted."""
    parts = [load_file(path) for path in dataset.files]
    tables = [np.column_stack([part["features"], part["labels"]]) for part in parts]
    return sorted(tuple(row) for row in np.concatenate(tables).tolist())


def lines(*columns: list[str], header: str = HEADER) -> str:
    body = [",".join(row) for row in zip(*columns, strict=True)]
    return "\n".join([header, *body] if header else body) + "\n"


def repeated(values: list[str], count: int = ROWS) -> list[str]:
    return [values[row % len(values)] for row in range(count)]


NUMBERS = [f"{row}.5" for row in range(ROWS)]
LABELS = repeated(["0", "1"])
PENGUINS = lines(repeated(SEXES), NUMBERS, repeated(ISLANDS), LABELS)


def test_a_few_texts_become_an_input_each(tmp_path: Path) -> None:
    dataset = cut(tmp_path, PENGUINS)
    assert dataset.inputs == 6
    assert dataset.columns == (
        "column 0 'sex': 2 categories: female, male, as 2 inputs",
        "column 2 'island': 3 categories: Biscoe, Dream, Torgersen, as 3 inputs",
    )
    expected = []
    for row in range(ROWS):
        island = sorted(ISLANDS).index(ISLANDS[row % 3])
        expected.append((row % 2, 1 - row % 2, row + 0.5, *(island == place for place in range(3)), row % 2))
    assert trained_on(dataset) == sorted(tuple(map(float, row)) for row in expected)
    assert from_json(dataset.schema.to_json(), "model") == dataset.schema


def test_new_rows_are_encoded_alike_in_any_order(tmp_path: Path) -> None:
    dataset = cut(tmp_path, PENGUINS)
    (tmp_path / "new.csv").write_text("island,other,x,sex\nDream,1,7.5,male\nBiscoe,2,8.5,male\n")
    found = rows.read(tmp_path / "new.csv", dataset.inputs, dataset.schema)
    assert found.features.tolist() == [[0, 1, 7.5, 0, 1, 0], [0, 1, 8.5, 1, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sex,x,island\nmale,1,Dream\nother,1,Dream\n",
            "line 3, column 0 'sex': 'other' is none of .*female, male",
        ),
        (
            "sex,x,island\nmale,1,Dream\nmale,1,dream\n",
            "line 3, column 2 'island': 'dream' is none of .*Biscoe",
        ),
        ("sex,x,island\nmale,1,Dream\n,1,Dream\n", "line 3, column 0 'sex': '' is a missing value"),
        ("male,1.5,7\nmale,1.5,7\n", "line 1, column 2: '7' is none of the categories"),
    ],
)
def test_an_unknown_category_is_refused(tmp_path: Path, text: str, message: str) -> None:
    dataset = cut(tmp_path, PENGUINS)
    (tmp_path / "new.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        rows.read(tmp_path / "new.csv", dataset.inputs, dataset.schema)


def test_an_unknown_category_is_told_whatever_the_definition_says_of_the_file(tmp_path: Path) -> None:
    text = PENGUINS.replace(",", ";").removeprefix(HEADER.replace(",", ";") + "\n")
    dataset = cut(tmp_path, text, delimiter=";", header=False)
    (tmp_path / "new.csv").write_text(text.replace("female", "other"))
    with pytest.raises(UnknownCategory, match="line 2, column 0: 'other'"):
        rows.read(tmp_path / "new.csv", dataset.inputs, dataset.schema)


def test_numbers_are_categories_where_the_definition_says_so(tmp_path: Path) -> None:
    text = lines(repeated(["10", "9", "8.0"]), NUMBERS, repeated(["2", "4", "5more"]), LABELS)
    keys: dict[str, Any] = {"category-columns": ["sex", 2]}
    dataset = cut(tmp_path, text, **keys)
    assert dataset.schema.categories == {0: ("8", "9", "10"), 2: ("2", "4", "5more")}
    (tmp_path / "new.csv").write_text("sex,x,island\n8,1,5more\n10.0,1,2\n")
    found = rows.read(tmp_path / "new.csv", dataset.inputs, dataset.schema)
    assert found.features.tolist() == [[1, 0, 0, 1, 0, 0, 1], [0, 0, 1, 1, 1, 0, 0]]


def test_scaling_leaves_categories_alone(tmp_path: Path) -> None:
    dataset = cut(tmp_path, PENGUINS, scale="1/255")
    assert {row[0] for row in trained_on(dataset)} == {0.0, 1.0}
    found = rows.read(tmp_path / "data.csv", dataset.inputs, dataset.schema).features
    np.testing.assert_array_equal(found[0], np.array([0, 1, 0.5 / 255, 0, 0, 1], np.float32))


def test_a_table_of_texts_alone(tmp_path: Path) -> None:
    """Its header is told by names that no row repeats."""
    body = lines(repeated(SEXES), repeated(["p", "q", "r"]), repeated(ISLANDS), repeated(["e", "o"]))
    named = cut(tmp_path, body)
    assert (named.rows, named.inputs) == (ROWS, 8)
    bare = cut(tmp_path, body.removeprefix(f"{HEADER}\n"))
    assert (bare.rows, bare.inputs) == (ROWS, 8)
    with pytest.raises(DataError, match=r"line 1: does .* name the columns, or is it a row of values\?"):
        cut(tmp_path, body.replace(HEADER, "male,second,third,fourth"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([f"Mr. {row}" for row in range(ROWS)], "line 2, .*'Mr. 0' is one of 40 different texts in 40 rows"),
        (repeated([f"P{n}" for n in range(11)]), "one of 11 different texts"),
        (repeated(["2020-01-03", "2020-02-03"]), "'2020-01-03' is a date or a time; write numbers"),
        (repeated(["12:30", "1:45 pm"]), "is a date or a time"),
        (repeated(["3 May 2020", "4. Mai 2020".replace("Mai", "Jun")]), "is a date or a time"),
        (repeated(["5%", "10 %"]), "'5%' is a percentage; write the number alone"),
        (repeated(["$5", "$1,200.50"]), "is an amount of money"),
        (repeated(["1'234", "2'345.5"]), "is a number with marks between its thousands"),
        (repeated(["5 cm", "6cm"]), "is a number with a unit"),
        (repeated(["\u22125.5", "\u22126"]), "begins with a dash that is no minus sign"),
        (repeated(["5", "6", "about 7"]), "line 4, column 0 'sex': 'about 7' is not a finite number"),
        (["a"] * 30 + ["NA"] * 10, "line 32, column 0 'sex': 'NA' is a missing value; fill it in \\(such as"),
        ([""] * ROWS, r"if the whole column is empty, ml.dataset.ignore-columns: \[sex\]"),
    ],
)
def test_texts_that_are_not_certainly_categories_are_refused(
    tmp_path: Path, column: list[str], message: str
) -> None:
    column = [f'"{value}"' for value in column]
    with pytest.raises(DataError, match=message) as error:
        cut(tmp_path, lines(column, NUMBERS, repeated(ISLANDS), LABELS))
    assert re.search(r"ml\.dataset\.(ignore|category)-columns|fill it in", str(error.value))


def test_all_doubtful_columns_are_named_at_once_and_what_was_ignored_stays_so(tmp_path: Path) -> None:
    numbered = [str(row) for row in range(ROWS)]
    names = [f"N{row}" for row in range(ROWS)]
    text = lines(numbered, names, NUMBERS, names, LABELS, header=',name,x,"note, long",y')
    with pytest.raises(DataError, match=r"column 3 'note, long' likewise") as error:
        cut(tmp_path, text)
    listed = re.search(r"ignore-columns: (\[.*?\])", str(error.value))
    assert listed is not None
    assert listed[1] == '[0, name, "note, long"]'
    keys: dict[str, Any] = {"ignore-columns": [0, "name", "note, long"]}
    assert cut(tmp_path, text, **keys).inputs == 1


def test_a_number_late_in_a_column_of_texts_is_named(tmp_path: Path) -> None:
    column = [*repeated(SEXES, 600), "7", *repeated(SEXES, 19)]
    text = lines(column, repeated(["1.5", "2.5"], 620), repeated(ISLANDS, 620), repeated(["0", "1"], 620))
    with pytest.raises(DataError, match="line 602, column 0 'sex': '7' is a number among texts such as"):
        cut(tmp_path, text)


def test_categories_are_counted_before_memory_is_taken_for_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="40 rows of 6 values are more than 1073741824 rows of 5 values"):
        cut(tmp_path, PENGUINS, limits=DatasetLimits(columns=5))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"category-columns": ["y"]}, "column 3 'y' is the label"),
        ({"category-columns": [0], "ignore-columns": [0]}, "column 0 'sex' is ignored"),
        ({"category-columns": ["seks"]}, "category-columns: no column is named 'seks'"),
    ],
)
def test_category_columns_that_there_are_not(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        cut(tmp_path, PENGUINS, **keys)


@pytest.mark.parametrize(
    "value",
    ["male", "A", "1st", "4WD", "5more", "18-25", "<=50K", "Mar", "May", "Monday", "B-12", "$$", "low", "?x"],
)
def test_categories_are_no_spellings_of_numbers(value: str) -> None:
    found = spelling(value)
    assert found is None or not found.certain


def test_classes_that_no_row_has_are_told(tmp_path: Path) -> None:
    (warning,) = cut(tmp_path, PENGUINS, outputs=4).warnings
    assert "4 nodes, and the labels are only 2 of these classes: no row has 2, 3. Write 2 nodes" in warning
    (warning,) = cut(tmp_path, PENGUINS, outputs=3, classes=[0, 1, 5]).warnings
    assert "no row has 5" in warning
    assert not cut(tmp_path, PENGUINS).warnings


WORDS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='"'), min_size=1, max_size=6)
TABLES = st.lists(
    st.tuples(
        st.booleans(), st.lists(WORDS.map(lambda word: f"{word}_"), min_size=2, max_size=3, unique=True)
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(
    columns=TABLES,
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    seed=st.integers(0, 1000),
)
def test_any_table_is_encoded_as_its_training_was(
    tmp_path_factory: pytest.TempPathFactory,
    columns: list[tuple[bool, list[str]]],
    delimiter: str,
    quoting: Any,
    newline: str,
    encoding: str,
    seed: int,
) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    body: list[list[Any]] = []
    for row in range(24):
        values = [words[row % len(words)] if text else float(random.normal()) for text, words in columns]
        body.append([*values, float(random.normal()), row % 2])
    names = [f"name {place}" for place in range(len(columns) + 2)]
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=newline)
    writer.writerows([names, *body])
    directory = tmp_path_factory.mktemp("table")
    (directory / "data.csv").write_bytes(file.getvalue().encode(encoding))
    layers = [{"id": 1, "type": "Dense", "nodes": 2, "activation": "Linear"}]
    source = {"format": "CSV", "source": {"features": "data.csv"}}
    dataset = split(definition(dataset=source, layers=layers), directory, directory)
    expected = []
    for values in body:
        inputs: list[float] = []
        for value, (text, words) in zip(values, columns, strict=False):
            inputs += [float(word == value) for word in sorted(words)] if text else [float(np.float32(value))]
        expected.append((*inputs, float(np.float32(values[-2])), float(values[-1])))
    assert trained_on(dataset) == sorted(expected)
    found = rows.read(directory / "data.csv", dataset.inputs, dataset.schema)
    assert [tuple(row) for row in found.features.tolist()] == [row[:-1] for row in expected]
