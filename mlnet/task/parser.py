"""From the plain values of a task definition to its structs: every key honoured or refused."""

from __future__ import annotations

from typing import get_args

from mlnet.task.dataset import read_dataset
from mlnet.task.fields import Section, describe
from mlnet.task.keys import CLUSTER_KEYS, HOMES, KEYS, ML_KEYS, ROOT_KEYS
from mlnet.task.model import read_metrics, read_model
from mlnet.task.optimizer import NO_COMPRESSION, read_optimizer
from mlnet.task.problems import MAX_PROBLEMS, Enough, Mend, Problems
from mlnet.task.schema import (
    MAX_COMMITTEE,
    MAX_CPUS,
    MAX_NODES,
    MAX_PAYMENT,
    ClusterSpec,
    Method,
    Ml,
    Payment,
    Requirements,
    Strategy,
    TaskDefinition,
    Validation,
)


def read(plain: object, *, most: int = MAX_PROBLEMS) -> TaskDefinition:
    """The definition in the plain values of its YAML.

    Args:
        plain: the values.
        most: so many errors are looked for.

    Raises:
        TaskError: it breaks the schema; with all errors up to ``most``.
    """
    problems = Problems(most, HOMES)
    definition = examine(plain, problems)
    problems.check()
    if definition is None:
        raise AssertionError("no definition and no problem")
    return definition


def examine(plain: object, problems: Problems) -> TaskDefinition | None:
    """Note every problem of a definition. The result has a meaning only if there are no problems."""
    try:
        root = Section(problems, plain, "", ROOT_KEYS)
        _version(root)
        payment = root.section("payment", KEYS["payment"])
        return TaskDefinition(
            version=1,
            payment=Payment(payment.amount("best-model-payment-amount", MAX_PAYMENT)),
            ml=_ml(root.section("ml", ML_KEYS, also=("tau",))),
            cluster=_cluster(root),
        )
    except Enough:
        return None


def new_problems(most: int = MAX_PROBLEMS) -> Problems:
    """A collector for :func:`examine`."""
    return Problems(most, HOMES)


def _version(root: Section) -> None:
    value = root.value("version", mend=root.missing("version", 1))
    if "version" in root and (value != 1 or isinstance(value, bool)):
        # 0.1 is the version of the definitions from which this schema comes.
        same = value in ("1", "1.0", 0.1)
        root.wrong("version", f"found {describe(value)}", "write 1", 1 if same else Mend.NONE)


def _ml(ml: Section) -> Ml:
    if "tau" in ml:
        ml.remove("tau", NO_COMPRESSION)
    dataset = read_dataset(ml)
    strategy = ml.section("validation", ("strategy",)).section("strategy", ("method", "size"))
    method = strategy.choice("method", get_args(Method))
    size = strategy.number("size", 0, 1, bounds="()")
    optimizer = read_optimizer(ml)
    model, loss = read_model(ml)
    return Ml(dataset, Validation(Strategy(method, size)), optimizer, model, read_metrics(ml, loss))


def _cluster(root: Section) -> ClusterSpec:
    section = root.section("cluster", CLUSTER_KEYS, optional=True)
    default = ClusterSpec()
    least = section.integer("min-committee-size", 2, MAX_COMMITTEE, default.min_committee_size)
    most = section.integer("max-committee-size", 2, MAX_COMMITTEE, max(default.max_committee_size, least))
    low = section.integer("min-nodes", 2, MAX_NODES, max(default.min_nodes, least))
    high = section.integer("max-nodes", 2, MAX_NODES, max(default.max_nodes, low))
    for key, value, other, bound in (
        ("max-committee-size", most, "min-committee-size", least),
        ("max-nodes", high, "min-nodes", low),
        ("min-nodes", low, "min-committee-size", least),
    ):
        if section.sound(key, other) and value < bound:
            section.wrong(key, f"{value} is less than {other}, {bound}", f"write {bound} or more")
    requirements = section.section("requirements", ("memory", "cpus"), optional=True)
    needs = Requirements()
    return ClusterSpec(
        waiting_period=section.duration("waiting-period", "100ms", "24h", default.waiting_period),
        min_nodes=low,
        max_nodes=high,
        max_committee_size=most,
        min_committee_size=least,
        sealed_votes=section.flag("sealed-votes", default.sealed_votes),
        requirements=Requirements(
            requirements.size("memory", needs.memory), requirements.integer("cpus", 0, MAX_CPUS, needs.cpus)
        ),
    )
