"""What the author of a definition is told of slips in its text: each is one change of the example."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.definitions import EXAMPLE, Draft
from support.message_cases import Case, check

from mlnet.task import definition as task_definition
from mlnet.util import yaml12

SIZE = "    training-set-size: 0.8\n"
EPOCHS = "    epochs: 12\n"
SLIPS: dict[str, tuple[str, str]] = {
    "a fence of Markdown": (SIZE, f"```yaml\n{SIZE}"),
    "a merge conflict": (SIZE, f"<<<<<<< HEAD\n{SIZE}=======\n"),
    "a no-break space": (SIZE, SIZE.replace(": ", ":\u00a0")),
    "curly quotes around a value": (SIZE, SIZE.replace("0.8", "\u201c0.8\u201d")),
    "curly quotes around a key": (SIZE, SIZE.replace("training-set-size", "\u201ctraining-set-size\u201d")),
    "a Windows path": ("      features: ", '      features: "C:\\digits.npz" #'),
    "no space after the colon": (EPOCHS, EPOCHS.replace(": ", ":")),
    "an equals sign": (EPOCHS, EPOCHS.replace(":", " =")),
    "no colon": (EPOCHS, EPOCHS.replace(":", "")),
    "no space after a dash": ("    - Accuracy", "    -Accuracy"),
    "an indentation of its own": (EPOCHS, f"   {EPOCHS.strip()}\n"),
    "two keys in a line": (EPOCHS, "    epochs: 12 batch-size: 32\n"),
    "a value that begins with a sign": ("      features: ", "      features: @"),
    "a value that begins with a star": ("      features: ", "      features: *"),
    "a quote that is not closed": ("type: Adam", 'type: "Adam'),
    "a bracket that is not closed": (EPOCHS, "    epochs: [12\n"),
    "a template": (EPOCHS, "    epochs: {{ epochs }}\n"),
    "a key twice with the same value": (EPOCHS, EPOCHS * 2),
    "tabs in two lines": (f"{EPOCHS}    batch-size", f"\t{EPOCHS.strip()}\n\tbatch-size"),
    "an anchor": (EPOCHS, EPOCHS.replace("12", "&e 12")),
    "a merge key": (EPOCHS, f"{EPOCHS}    <<: 1\n"),
    "a long number": (EPOCHS, EPOCHS.replace("12", "3" * 70)),
    "a control character": (EPOCHS, EPOCHS.replace("12", "3\x070")),
    "text behind a quoted value": ("type: Adam", "type: 'Adam' fast"),
    "a comma for a value": (EPOCHS, "    epochs: ,\n"),
    "quotes that are none to a value": ("type: Adam", "type: \u00abAdam\u00bb"),
}


def slip(old: str, new: str) -> Case:
    text = EXAMPLE.read_text()
    assert old in text, old
    return lambda _: task_definition.load(text.replace(old, new, 1))


def test_slips(tmp_path: Path) -> None:
    check("slips", {title: slip(old, new) for title, (old, new) in SLIPS.items()}, tmp_path)


DATASET = "ml.dataset"
LAYERS = "ml.model.hidden-units"
CSV = (f"{DATASET}.format", "CSV")
PARAMETERS = "ml.optimizer.optimizer_initialization_parameters"
VALUES: dict[str, list[tuple[str, object]]] = {
    "a share in per cent": [(f"{DATASET}.training-set-size", 80)],
    "a path where keys belong": [(f"{DATASET}.source", "digits.npz")],
    "the same file twice for a CSV": [
        CSV,
        (f"{DATASET}.source.labels", "digits.csv"),
        (f"{DATASET}.source.features", "digits.csv"),
    ],
    "a tab as two characters": [CSV, (f"{DATASET}.delimiter", "\\t")],
    "a class that is a fraction": [(f"{DATASET}.classes", ["a", 1.5])],
    "a class without a name": [(f"{DATASET}.classes", ["a", ""])],
    "a class with a large number": [(f"{DATASET}.classes", ["a", 1 << 60])],
    "a class twice": [(f"{DATASET}.classes", ["a", "a"])],
    "a letter that begins comments": [CSV, (f"{DATASET}.comment", "rem")],
    "an input layer": [(f"{LAYERS}.0", {"id": 9, "type": "Input", "nodes": 64})],
    "PyTorch's betas": [(f"{PARAMETERS}.betas", [0.9, 0.99])],
    "MXNet's magnitude": [
        ("ml.optimizer.initializer", {"name": "Xavier", "parameters": {"magnitude": 2.24}})
    ],
    "a metric that is no list": [("ml.evaluation-metrics", "Accuracy")],
    "a loss with a slip": [("ml.model.loss", "CrosEntrpy")],
    "curly quotes in the value": [(f"{DATASET}.source.features", "\u201cdigits.npz\u201d")],
}


def test_values(tmp_path: Path) -> None:
    def changed(changes: list[tuple[str, object]]) -> Case:
        def case(_: Path) -> object:
            draft = Draft.example()
            for path, value in changes:
                draft.set(path, value)
            return draft.read()

        return case

    check("values", {title: changed(changes) for title, changes in VALUES.items()}, tmp_path)


def test_files_of_another_kind(tmp_path: Path) -> None:
    def file(content: bytes) -> Case:
        def case(directory: Path) -> object:
            (directory / "task.yaml").write_bytes(content)
            return task_definition.load_file(directory / "task.yaml")

        return case

    check(
        "other-files",
        {
            "a PDF": file(b"%PDF-1.7"),
            "a Parquet file": file(b"PAR1"),
            "an NPY file": file(b"\x93NUMPY"),
            "a Zip archive": file(b"PK\x03\x04"),
            "a gzip file": file(b"\x1f\x8b"),
            "UTF-16": file("version: 1\n".encode("utf-16")),
        },
        tmp_path,
    )


STRICT = {
    "an anchor": "a: &x 1\n",
    "an alias": "a: *x\n",
    "a merge key": "<<: 1\n",
    "a number as a key": "1: 2\n",
    "a long number": f"a: {'3' * 70}\n",
    "a control character": "a: \x07\n",
    "a long text": "#" * (yaml12.MAX_BYTES + 1),
}


def test_texts_of_others(tmp_path: Path) -> None:
    """Of which only the first error is looked for."""

    def text(content: str) -> Case:
        return lambda _: task_definition.load(content, diagnose=False)

    def pure(_: Path) -> object:
        """Where PyYAML was installed without libyaml."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yaml12, "_Loader", yaml.SafeLoader)
            return yaml12.load('a: "\\UFFFFFFFF"')

    cases = {title: text(content) for title, content in STRICT.items()}
    check("strict", cases | {"a character that there is not": pure}, tmp_path)
