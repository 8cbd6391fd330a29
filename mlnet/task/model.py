"""What is trained and measured: the layers, the loss and the metrics of a task definition."""

from __future__ import annotations

from typing import get_args

from mlnet.task import spellings
from mlnet.task.fields import Section, choose, describe, expected
from mlnet.task.keys import MODEL_KEYS, UNIT_KEYS
from mlnet.task.kinds import read_any, refuse_others, union
from mlnet.task.layers import UNITS, Unit, name_of
from mlnet.task.problems import Mend, Problems
from mlnet.task.schema import (
    MAX_LAYERS,
    MAX_PARAMETERS,
    Loss,
    Metric,
    ModelSpec,
)

METRICS: tuple[Metric, ...] = get_args(Metric)
_UNITS: dict[str, type[Unit]] = {name_of(unit): unit for unit in UNITS}


def read_model(ml: Section) -> tuple[ModelSpec, Loss | None]:
    """The section ``ml.model``, and its loss; None for an unknown loss."""
    section = ml.section("model", MODEL_KEYS)
    kind = section.value("type", mend=section.missing("type", "MLP"))
    if "type" in section and kind != "MLP":
        fix = "write MLP: a multilayer perceptron is what there is"
        meant = isinstance(kind, str) and spellings.choice(kind, ("MLP",))
        section.wrong("type", f"found {describe(kind)}", fix, "MLP" if meant else Mend.NONE)
    given = section.choice("loss", get_args(Loss))
    loss = given if section.sound("loss") else None
    items = section.items("hidden-units", MAX_LAYERS)
    units = [
        _unit(ml.problems, path, item, last=index == len(items) - 1)
        for index, (path, item) in enumerate(items)
    ]
    seen: set[int | str] = set()
    for (path, _), unit in zip(items, units, strict=True):
        if unit is not None and unit.id in seen:
            ml.problems.add(f"{path}.id", f"{unit.id} names an earlier layer, too", "write one of its own")
        if unit is not None and unit.id != "":
            seen.add(unit.id)
    if units and units[-1] is not None:
        units[-1].check_output(ml.problems, items[-1][0], loss)
    model = ModelSpec("MLP", tuple(unit for unit in units if unit is not None), given)
    count = model.parameter_count(1)
    if count > MAX_PARAMETERS:
        fix = f"use fewer nodes: at most {MAX_PARAMETERS} are accepted"
        section.wrong("hidden-units", f"the layers have {count} parameters or more", fix)
    return model, loss


def _unit(problems: Problems, path: str, item: object, *, last: bool) -> Unit | None:
    """One layer; None if its type is unknown."""
    if isinstance(item, dict) and item.get("type") in ("Input", "InputLayer"):
        problems.add(
            path,
            "an input layer is not needed: the dataset determines the number of inputs",
            "remove the layer",
            Mend(path, ()),
        )
        return None
    if not isinstance(item, dict):
        what = f"a mapping with the keys {', '.join(UNIT_KEYS['Dense'])}"
        problems.add(path, f"found {describe(item)}", expected(item, what))
        return None
    section = Section(problems, item, path, union(UNIT_KEYS))
    kinds = tuple(UNIT_KEYS)
    if "type" not in section:
        problems.add(f"{path}.type", "missing", f"write {' or '.join(kinds)}")
        kind = "Dense" if "nodes" in section else "Dropout"
    else:
        kind = section.choice("type", kinds)
    if not section.sound("type"):
        read_any(section)
        _unit_id(section)
        return None
    refuse_others(section, kind, UNIT_KEYS)
    name = _unit_id(section)
    return _UNITS[kind].read(section, name, last=last)


def _unit_id(section: Section) -> int | str:
    """The id of a layer; an empty text if it has no good one."""
    if isinstance(section.value("id"), str):
        name: int | str = section.text("id", 64)
    else:
        name = section.integer("id", 0, MAX_PARAMETERS)
    return name if section.sound("id") else ""


def read_metrics(ml: Section, loss: Loss | None) -> tuple[Metric, ...]:
    """The list ``ml.evaluation-metrics``; whether the loss goes with each is looked at, too."""
    names = METRICS
    value = ml.value("evaluation-metrics", None)
    only = spellings.choice(value, names) if isinstance(value, str) else None
    if only is not None:
        fix = f"write a list: [{only}]"
        ml.wrong("evaluation-metrics", f"found {describe(value)}", fix, [only])
        return tuple(name for name in names if name == only)
    metrics: list[Metric] = []
    for path, item in ml.items("evaluation-metrics", len(names)):
        metric = choose(ml.problems, path, item, names)
        if not ml.problems.sound(path):
            continue
        if metric in metrics:
            ml.problems.add(path, f"{metric} appears twice", "remove one", Mend(path, ()))
        elif metric != "MSE" and loss not in (None, "CrossEntropy"):
            ml.problems.add(path, f"{metric} needs the loss CrossEntropy, not {loss}", "write MSE")
        metrics.append(metric)
    return tuple(metrics)
