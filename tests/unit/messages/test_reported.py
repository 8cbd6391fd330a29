"""What is said of inputs for which users have reported words that did not help them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from support.datasets import definition
from support.definitions import EXAMPLE, Draft
from support.message_cases import Case, check

from mlnet.data import split
from mlnet.net import addresses
from mlnet.task import definition as task_definition

PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
ROWS = "".join(f"{n % 7}.5,{n % 3}.25,{n % 5}.5,{n % 2}\n" for n in range(12))


def table(content: str | bytes, **keys: Any) -> Case:
    """The notes on a CSV, or why it is refused."""

    def case(directory: Path) -> object:
        data = content if isinstance(content, bytes) else content.encode()
        (directory / "data.csv").write_bytes(data)
        dataset = {"format": "CSV", "source": {"features": "data.csv"}, **keys}
        layers = [{"id": 1, "type": "Dense", "nodes": 2, "activation": "Linear"}]
        wanted = definition(dataset=dataset, layers=layers)
        return "\n".join(split(wanted, directory, directory).notes)

    return case


def changed(*changes: tuple[str, object]) -> Case:
    def case(_: Path) -> object:
        draft = Draft.example()
        for path, value in changes:
            draft.set(path, value)
        draft.read()
        return "valid"

    return case


def written(old: str, new: str) -> Case:
    assert old in EXAMPLE.read_text()
    return lambda _: task_definition.load(EXAMPLE.read_text().replace(old, new, 1))


def test_tables(tmp_path: Path) -> None:
    check(
        "reported-tables",
        {
            "another delimiter than the default": table(ROWS.replace(",", ";")),
            "another delimiter than was set": table(ROWS.replace(",", ";"), delimiter=","),
            "labels of text": table(ROWS.replace(",0\n", ",no\n").replace(",1\n", ",yes\n")),
            "lines of comments": table(f"# measured in May\n{ROWS}"),
            "ARFF": table(f"@relation digits\n{ROWS}"),
            "libsvm": table("1 1:0.5 2:0.25\n" * 12),
            "Excel's first line": table(f"sep=,\n{ROWS}"),
            "an empty field": table(f"a,b,c,kind\n{ROWS}1.5,,2.5,0\n"),
            "a line end in a quoted name": table(f'"a\nof one",b,c,kind\n{ROWS}'),
            "gzip that is named .csv": table(gzip.compress(ROWS.encode())),
            "Parquet that is named .csv": table(b"PAR1" + bytes(100)),
            "a label in a line of its own": table(ROWS + "1.5,2.25,2.5,0.5\n"),
        },
        tmp_path,
    )


def test_definitions_and_addresses(tmp_path: Path) -> None:
    optimizer, model = "ml.optimizer", "ml.model"
    parameters = {"name": "Xavier", "parameters": {"magnitude": 2.24}}
    check(
        "reported-definitions",
        {
            "another framework's spellings, all at once": changed(
                (f"{model}.type", "FC-DNN"),
                (f"{model}.loss", "SoftmaxCrossEntropyLoss"),
                (f"{model}.hidden-units.0.activation", "relu"),
                (f"{optimizer}.initializer", parameters),
                (f"{optimizer}.epochs", "10"),
            ),
            "layers for hidden-units": written("    hidden-units:", "    layers:"),
            "a share that Python computed": changed(("ml.dataset.test-set-size", 0.19999999999999996)),
            "a no-break space": written("    epochs: 12", "    epochs:\u00a012"),
            "a Windows path in double quotes": written(
                "      features: ", '      features: "C:\\digits.npz" #'
            ),
            "NUL": written("    epochs: 12", "    epochs: 12\0"),
            "an underscore in a host's name": lambda _: addresses.split_full(
                f"/dns4/node_1/tcp/4001/p2p/{PEER}"
            )[1],
        },
        tmp_path,
    )
