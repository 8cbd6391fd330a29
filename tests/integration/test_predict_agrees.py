"""What a trained model says of its own training file: the same, however the file is written.

Each case cuts a dataset, trains on it with the product's own loop, delivers the model with the schema, and
asks ``predict`` about files. The expected answers come from the model and the very numbers, without any file.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from support.datasets import definition
from typer.testing import CliRunner

from mlnet.cli.app import app
from mlnet.data import Dataset, deliver, split
from mlnet.errors import DataError
from mlnet.task import definition as task_definition
from mlnet.training.ipc import TrainJob
from mlnet.training.loop import train
from mlnet.training.model import load_model
from mlnet.training.predict import predict

ROWS = 120
NAMES = ["length", "width", "depth, cm", "mass"]
CLASSES = ["setosa", "versicolor", "virginica"]


def _values() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.Generator(np.random.PCG64(7))
    labels = np.arange(ROWS) % 3
    centres = np.array([[3, 0, -2, 1], [-2, 3, 1, -3], [0, -3, 3, 2]])
    features = np.round(centres[labels] + random.normal(size=(ROWS, 4)), 3)
    return features.astype(np.float32), labels


FEATURES, LABELS = _values()
PIXELS = np.round((FEATURES - FEATURES.min()) / np.ptp(FEATURES) * 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of one rank, which is all that the loop needs."""
    place = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@dataclass
class Table:
    """A CSV of the rows.

    Attributes:
        order: columns by their names, "label" and "index" among them.
        labels: as they are written.
    """

    order: list[str] = field(default_factory=lambda: [*NAMES, "label"])
    labels: list[str] = field(default_factory=lambda: [str(label) for label in LABELS])
    names: dict[str, str] = field(default_factory=dict)
    header: bool = True
    delimiter: str = ","
    decimal: str = "."
    before: str = ""
    after: str = ""
    pack: Callable[[bytes], bytes] = bytes

    def write(self, path: Path) -> Path:
        columns: dict[str, list[str]] = {
            "label": self.labels,
            "index": [str(row) for row in range(ROWS)],
            "note": [f"n{row}" for row in range(ROWS)],
        }
        for place, name in enumerate(NAMES):
            columns[name] = [f"{value:.3f}".replace(".", self.decimal) for value in FEATURES[:, place]]
        lines = [self.before] if self.before else []
        if self.header:
            names = [self.names.get(name, name) for name in self.order]
            lines.append(self.delimiter.join(f'"{name}"' if name else "" for name in names) + self.after)
        rows = zip(*(columns[name] for name in self.order), strict=True)
        lines.extend(self.delimiter.join(row) + self.after for row in rows)
        path.write_bytes(self.pack("".join(f"{line}\n" for line in lines).encode()))
        return path


WORDS = [CLASSES[label] for label in LABELS]
FIRST = ["label", *NAMES]
MIDDLE = [*NAMES[:2], "label", *NAMES[2:]]
INDEXED = ["index", *NAMES, "label"]
NUMBERED = {name: str(place) for place, name in enumerate([*NAMES, "label"])}

# Each table with the keys that its definition needs.
TABLES: dict[str, tuple[Table, dict[str, Any]]] = {
    "label last": (Table(), {}),
    "label first": (Table(FIRST), {"label-column": "label"}),
    "label first, by place": (Table(FIRST), {"label-column": 0}),
    "label middle": (Table(MIDDLE), {"label-column": "label"}),
    "no header": (Table(header=False), {}),
    "no header, label first": (Table(FIRST, header=False), {"label-column": 0}),
    "no header, label middle": (Table(MIDDLE, header=False), {"label-column": 2, "header": False}),
    "pandas' index": (Table(INDEXED, names={"index": ""}), {}),
    "a saved index": (Table(INDEXED, names={"index": "Unnamed: 0"}), {"label-column": -1}),
    "pandas' numbers for names": (Table(names=NUMBERED), {}),
    "numbers for names and an index": (Table(INDEXED, names=NUMBERED | {"index": ""}), {}),
    "no header, an index": (Table(INDEXED, header=False), {"ignore-columns": [0]}),
    "a column of texts": (Table([*NAMES, "note", "label"]), {"ignore-columns": ["note"]}),
    "names as labels": (Table(labels=WORDS), {}),
    "names as labels, no header, first": (Table(FIRST, WORDS, header=False), {"label-column": 0}),
    "labels from 1": (Table(labels=[str(label + 1) for label in LABELS]), {}),
    "labels as floats": (Table(labels=[f"{label}.0" for label in LABELS]), {}),
    "classes in another order": (Table(labels=WORDS), {"classes": CLASSES[::-1]}),
    "semicolons and decimal commas": (Table(delimiter=";", decimal=","), {}),
    "tabs": (Table(delimiter="\t"), {"delimiter": "\t"}),
    "blanks": (Table(delimiter=" ", names={"depth, cm": "depth"}), {}),
    "bars": (Table(delimiter="|"), {}),
    "Excel's sep": (Table(delimiter=";", before="sep=;"), {}),
    "comments": (Table(before="# measured on a Monday", header=False), {}),
    "a delimiter at the end": (Table(after=","), {}),
    "gzip": (Table(pack=gzip.compress), {}),
    "UTF-16": (Table(delimiter="\t", pack=lambda text: text.decode().encode("utf-16")), {}),
}


@dataclass
class Trained:
    """A model as its user has it, and the loop's own file."""

    path: Path
    members: Path
    dataset: Dataset


def trained(folder: Path, dataset: dict[str, Any], **changes: Any) -> Trained:
    made = definition(
        dataset=dataset,
        layers=[
            {"id": 1, "type": "Dense", "nodes": 8, "activation": "ReLU"},
            {"id": 2, "type": "Dense", "nodes": changes.pop("outputs", 3), "activation": "Linear"},
        ],
        optimizer={
            "type": "Adam",
            "optimizer_initialization_parameters": {"learning_rate": 0.05},
            "epochs": 6,
            "batch-size": 16,
        },
        **changes,
    )
    cut = split(made, folder, folder)
    plan = TrainJob(
        definition=task_definition.to_plain(made),
        seed="seed",
        rank=0,
        world=1,
        segments=cut.segments[:8],
        files=tuple(map(str, cut.files[:8])),
        inputs=cut.inputs,
        host="127.0.0.1",
        endpoints=(),
        task="0" * 64,
        attempt=1,
        output=str(folder / "members"),
    )
    train(plan, lambda progress: None)
    deliver(folder / "members", folder / "model.safetensors", cut.schema)
    return Trained(folder / "model.safetensors", folder / "members", cut)


def answers(model: Trained, features: np.ndarray) -> list[int]:
    """Outputs of the model for the very numbers."""
    with torch.no_grad():
        outputs = load_model(model.members)(torch.from_numpy(features.astype(np.float32)))
    found: list[int] = outputs.argmax(dim=1).tolist()
    return found


@pytest.mark.parametrize("name", TABLES)
def test_predict_agrees_with_the_model_on_its_training_file(tmp_path: Path, name: str) -> None:
    table, keys = TABLES[name]
    file = table.write(tmp_path / "table.csv")
    model = trained(tmp_path, {"format": "CSV", "source": {"features": "table.csv"}} | keys)
    outputs = answers(model, FEATURES)
    classes = model.dataset.schema.classes
    known = keys.get("classes") or sorted(set(table.labels))
    written = [str(int(float(one))) if "." in one else one for one in known]
    assert [str(one) for one in classes] == written
    result = CliRunner().invoke(app, ["predict", str(model.path), str(file), "--json"])
    assert result.exit_code == 0, result.output
    found = [answer["class"] for answer in json.loads(result.stdout)]
    assert found == [classes[output] for output in outputs]
    right = sum(str(one) == want.removesuffix(".0") for one, want in zip(found, table.labels, strict=True))
    assert right > 0.9 * ROWS


OTHERS: dict[str, Table] = {
    "the training's file": Table(),
    "no label": Table(NAMES),
    "reordered": Table(["mass", "label", "depth, cm", "length", "width"]),
    "reordered, no label": Table(NAMES[::-1]),
    "another index": Table(["index", *NAMES[::-1]], names={"index": ""}),
    "another column": Table(["note", *NAMES]),
    "no header": Table(header=False),
    "no header, no label": Table(NAMES, header=False),
    "another delimiter": Table(NAMES[::-1], delimiter=";", decimal=","),
    "gzip": Table(NAMES, pack=gzip.compress),
    "unknown labels": Table(labels=["?"] * ROWS),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("model")
    Table().write(folder / "table.csv")
    return trained(folder, {"format": "CSV", "source": {"features": "table.csv"}})


@pytest.mark.parametrize("name", OTHERS)
def test_columns_are_found_by_name_or_place(tmp_path: Path, model: Trained, name: str) -> None:
    found = predict(model.path, OTHERS[name].write(tmp_path / "rows"))
    assert found.labels == answers(model, FEATURES)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (Table(NAMES[:3]), "lacks the columns mass"),
        (Table(NAMES[:2], header=False), "rows of 2 values; the model takes 4 features"),
        (Table(["index", "index", *NAMES], header=False), "rows of 6 values; the model takes 4 features"),
        (Table(["label", *NAMES], header=False), "column 4 holds .*not one of"),
        (Table(names={"mass": "width"}), "lacks the columns mass"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, model: Trained, table: Table, message: str) -> None:
    with pytest.raises(DataError, match=message):
        predict(model.path, table.write(tmp_path / "rows"))


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def test_pixels_are_scaled_alike_in_all_formats(tmp_path: Path) -> None:
    images = PIXELS.reshape(-1, 2, 2)
    for name in ("npz", "idx", "floats"):
        (tmp_path / name).mkdir()
    np.savez(tmp_path / "npz" / "d.npz", features=images, labels=LABELS.astype(np.uint8))
    (tmp_path / "idx" / "images").write_bytes(idx(images))
    (tmp_path / "idx" / "labels").write_bytes(gzip.compress(idx(LABELS.astype(np.uint8))))
    one = trained(tmp_path / "npz", {"format": "NPZ", "source": {"features": "d.npz"}})
    sources = {"features": "images", "labels": "labels"}
    two = trained(tmp_path / "idx", {"format": "MNIST", "source": sources})
    scaled = PIXELS.astype(np.float32) / np.float32(255)
    table = "\n".join(",".join(map(str, row)) for row in PIXELS)
    (tmp_path / "rows.csv").write_text(table)
    np.savez(tmp_path / "scaled.npz", features=scaled)
    np.save(tmp_path / "whole.npy", PIXELS.astype(np.int64))
    for trained_model in (one, two):
        expected = answers(trained_model, scaled)
        files = ["npz/d.npz", "idx/images", "rows.csv", "scaled.npz", "whole.npy"]
        for file in [tmp_path / name for name in files]:
            assert predict(trained_model.path, file).labels == expected, file
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        (folder / "images").write_bytes((tmp_path / "idx" / "images").read_bytes())
        (folder / "labels").write_bytes((tmp_path / "idx" / "labels").read_bytes())
        assert predict(trained_model.path, folder).labels == expected
    np.save(tmp_path / "strange.npy", scaled * 2 - 1)
    with pytest.raises(DataError, match="features from -1 to 1, and the model was trained on pixels"):
        predict(one.path, tmp_path / "strange.npy")


def test_texts_as_labels_of_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", features=FEATURES, labels=np.array(WORDS))
    model = trained(tmp_path, {"format": "NPZ", "source": {"features": "d.npz"}})
    expected = [CLASSES[output] for output in answers(model, FEATURES)]
    assert predict(model.path, tmp_path / "d.npz").labels == expected
    (tmp_path / "parts").mkdir()
    np.save(tmp_path / "parts" / "a.npy", FEATURES[:50])
    np.save(tmp_path / "parts" / "b.npy", FEATURES[50:])
    assert predict(model.path, tmp_path / "parts").labels == expected
    np.save(tmp_path / "bytes.npy", PIXELS)
    with pytest.raises(DataError, match="trained on numbers that mlnet did not scale"):
        predict(model.path, tmp_path / "bytes.npy")


def test_a_regression_with_its_target_first(tmp_path: Path) -> None:
    table = Table(FIRST, labels=[f"{value:.3f}" for value in FEATURES @ [1, 2, 3, 4]])
    file = table.write(tmp_path / "table.csv")
    dataset = {"format": "CSV", "source": {"features": "table.csv"}, "label-column": "label"}
    model = trained(tmp_path, dataset, outputs=1, loss="MSE", metrics=("MSE",))
    with torch.no_grad():
        expected = load_model(model.members)(torch.from_numpy(FEATURES)).numpy()
    np.testing.assert_array_equal(predict(model.path, file).values, expected)


@pytest.mark.parametrize("header", [True, False])
def test_categories_are_encoded_as_in_training(tmp_path: Path, header: bool) -> None:
    sexes, islands = ["female", "male"], ["Biscoe", "Dream", "Torgersen"]
    sex = np.arange(ROWS) // 3 % 2
    body = [
        f"{sexes[sex[row]]},{FEATURES[row, 0]:.3f},{islands[LABELS[row]]},{WORDS[row]}\n"
        for row in range(ROWS)
    ]
    names = "sex,length,island,kind\n"
    (tmp_path / "table.csv").write_text("".join([names * header, *body]))
    model = trained(tmp_path, {"format": "CSV", "source": {"features": "table.csv"}})
    inputs = np.column_stack([np.eye(2)[sex], FEATURES[:, 0], np.eye(3)[LABELS]])
    expected = [CLASSES[output] for output in answers(model, inputs)]
    assert sum(map(str.__eq__, expected, WORDS)) > 0.9 * ROWS
    assert predict(model.path, tmp_path / "table.csv").labels == expected
    if header:
        turned = [
            "kind,island,length,sex\n",
            *(",".join(line.strip().split(",")[::-1]) + "\n" for line in body),
        ]
        (tmp_path / "turned.csv").write_text("".join(turned))
        assert predict(model.path, tmp_path / "turned.csv").labels == expected
    (tmp_path / "other.csv").write_text("".join([names * header, *body]).replace("Dream", "Dreem"))
    result = CliRunner().invoke(app, ["predict", str(model.path), str(tmp_path / "other.csv")])
    assert result.exit_code != 0
    assert "column 2" in str(result.exception)
    assert "'Dreem' is none of the categories" in str(result.exception)
    assert "(Biscoe, Dream, Torgersen)" in str(result.exception)


def test_a_members_model_does_not_guess_the_label(tmp_path: Path, model: Trained) -> None:
    assert predict(model.members, Table(NAMES).write(tmp_path / "rows")).labels == answers(model, FEATURES)
    with pytest.raises(DataError, match="rows of 5 values; the model takes 4 features"):
        predict(model.members, Table().write(tmp_path / "rows"))
