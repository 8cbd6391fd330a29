"""The commands that read what is here: ``mlnet-node predict`` and ``mlnet-node rewards``."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from mlnet.driver.directories import default_data_dir
from mlnet.errors import ConfigError
from mlnet.node.ledger import Ledger, Receipt
from mlnet.util.wording import TASK_LENGTH, amount, clean, short

if TYPE_CHECKING:
    from mlnet.data.schema import Dialect
    from mlnet.training.predict import Prediction


def print_predictions(model: Path, data: Path, dialect: Dialect | None, *, json: bool) -> None:
    """Print a model's answer for each row of a file.

    Raises:
        DataError: a file cannot be read, or the rows do not fit the model.
    """
    from mlnet.training.predict import predict

    prediction = predict(model, data, dialect)
    for note in prediction.notes:
        typer.echo(f"note: {clean(note)}", err=True)
    answers = list(_answers(prediction))
    if json:
        _print_json(answers)
        return
    names = [clean(str(answer["class"])) for answer in answers if "class" in answer]
    width = max([4, *map(len, names)])
    for answer in answers:
        if "class" in answer:
            name = clean(str(answer["class"]))
            likeliest = f"class {name:>{width}}  probability {answer['probability']:.4f}"
            typer.echo(f"{answer['row']:>6}  {likeliest}")
        else:
            typer.echo(f"{answer['row']:>6}  {'  '.join(f'{value:.6g}' for value in answer['values'])}")


def dialect(delimiter: str | None, header: bool | None, decimal: str | None) -> Dialect | None:
    """What the options say of a CSV; None where there are none.

    Raises:
        ConfigError: an option has an impossible value.
    """
    from mlnet.data.schema import Dialect

    if delimiter == "\\t":
        delimiter = "\t"
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ConfigError(f"--delimiter {delimiter!r}: write one character such as ';' or '\\t'")
    if decimal not in (None, ".", ","):
        raise ConfigError(f"--decimal {decimal!r}: write '.' or ','")
    found = Dialect(delimiter, header, decimal)
    return None if found == Dialect() else found


def _answers(prediction: Prediction) -> Iterator[dict[str, Any]]:
    if prediction.labels is None or prediction.probabilities is None:
        for row, values in enumerate(prediction.values.tolist()):
            yield {"row": row, "values": values}
        return
    best = zip(prediction.labels, prediction.probabilities.tolist(), strict=True)
    for row, (label, probability) in enumerate(best):
        yield {"row": row, "class": label, "probability": round(probability, 6)}


def print_rewards(data_dir: Path | None, *, json: bool) -> None:
    """Print a node's ledger.

    Args:
        data_dir: of the node; None for the default, which need not exist yet.
        json: print a document in place of a table.

    Raises:
        ConfigError: the directory that was named does not exist, or a receipt is damaged.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise ConfigError(f"{data_dir} is not a directory of a node; give the --data-dir of its `start`")
    data_dir = data_dir or default_data_dir("node")
    receipts = Ledger(data_dir / "ledger").receipts()
    if json:
        _print_json(receipts)
    elif not receipts:
        typer.echo(f"no rewards yet in {data_dir}")
    else:
        for line in table(receipts):
            typer.echo(line)


def table(receipts: Sequence[Receipt]) -> Iterator[str]:
    """The lines of a ledger, and its sums."""
    yield _row("when", "task", "client", "state", "reward", "of payment")
    for receipt in receipts:
        when = datetime.datetime.fromtimestamp(receipt.recorded / 1000, datetime.UTC).astimezone()
        task, client = receipt.task[:TASK_LENGTH], short(receipt.client)
        figures = (amount(receipt.amount), amount(receipt.payment))
        yield _row(f"{when:%Y-%m-%d %H:%M}", task, client, receipt.state, *figures)
    for state in ("settled", "claimed"):
        found = [receipt.amount for receipt in receipts if receipt.state == state]
        if found:
            yield f"{state}: {amount(sum(found))} in {len(found)} task{'' if len(found) == 1 else 's'}"


def _row(when: str, task: str, client: str, state: str, reward: str, payment: str) -> str:
    return f"{when:<16}  {task:<12}  {client:<6}  {state:<7}  {reward:>14}  {payment:>14}"


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.flush()
