"""The commands that read what is here: ``mlnet-node predict`` and ``mlnet-node rewards``."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from mlnet.ledger import Ledger, Receipt
from mlnet.terminal.wording import TASK_LENGTH, amount, short

if TYPE_CHECKING:
    from mlnet.training.predict import Prediction


def print_predictions(model: Path, data: Path, *, json: bool) -> None:
    """Print a model's answer for each row of a file.

    Raises:
        DataError: a file cannot be read, or the rows do not fit the model.
    """
    from mlnet.training.predict import predict

    answers = list(_answers(predict(model, data)))
    if json:
        _print_json(answers)
        return
    for answer in answers:
        if "class" in answer:
            likeliest = f"class {answer['class']:>4}  probability {answer['probability']:.4f}"
            typer.echo(f"{answer['row']:>6}  {likeliest}")
        else:
            typer.echo(f"{answer['row']:>6}  {'  '.join(f'{value:.6g}' for value in answer['values'])}")


def _answers(prediction: Prediction) -> Iterator[dict[str, Any]]:
    if prediction.classes is None or prediction.probabilities is None:
        for row, values in enumerate(prediction.values.tolist()):
            yield {"row": row, "values": values}
        return
    best = zip(prediction.classes.tolist(), prediction.probabilities.tolist(), strict=True)
    for row, (number, probability) in enumerate(best):
        yield {"row": row, "class": number, "probability": round(probability, 6)}


def print_rewards(data_dir: Path, *, json: bool) -> None:
    """Print a node's ledger.

    Raises:
        ConfigError: a receipt in it is damaged.
    """
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
