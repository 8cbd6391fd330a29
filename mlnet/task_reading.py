"""From the plain values of a task definition to its structs: every key honoured or refused."""

from __future__ import annotations

import re
from typing import get_args

from mlnet.errors import TaskError
from mlnet.task_fields import Section, choose, describe, wrong_type
from mlnet.task_schema import (
    MAX_BATCH,
    MAX_CLUSTER,
    MAX_COMMITTEE,
    MAX_CPUS,
    MAX_EPOCHS,
    MAX_LAYERS,
    MAX_NODES_PER_LAYER,
    MAX_PARAMETERS,
    MAX_PATH,
    MAX_PAYMENT,
    SEGMENTS,
    Activation,
    AdamParameters,
    Cluster,
    Dataset,
    Dense,
    Dropout,
    Format,
    Initializer,
    InitializerName,
    Kaiming,
    KaimingMode,
    Loss,
    Method,
    Metric,
    Ml,
    Model,
    Nonlinearity,
    Normal,
    Optimizer,
    OptimizerType,
    Payment,
    Requirements,
    SgdParameters,
    Source,
    Strategy,
    TaskDefinition,
    Uniform,
    Validation,
    Xavier,
    Zeros,
)

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_CSV_KEYS = ("delimiter", "header", "label-column")
_UNIT_KEYS = {"Dense": ("id", "type", "nodes", "activation"), "Dropout": ("id", "type", "rate")}
_ADAM_KEYS = ("learning_rate", "weight_decay", "beta1", "beta2", "eps", "amsgrad")
_OPTIMIZER_KEYS: dict[OptimizerType, tuple[str, ...]] = {
    "SGD": ("learning_rate", "momentum", "weight_decay", "dampening", "nesterov"),
    "Adam": _ADAM_KEYS,
    "AdamW": _ADAM_KEYS,
}
_SYNONYMS = {"lr": "learning_rate", "betas": "beta1 and beta2", "epsilon": "eps"}
_INITIALIZER_KEYS: dict[InitializerName, tuple[str, ...]] = {
    "Xavier": ("gain",),
    "Kaiming": ("mode", "nonlinearity"),
    "Normal": ("mean", "std"),
    "Uniform": ("low", "high"),
    "Zeros": (),
}
_LARGE = 1e6
_RATE = 1e3


def read(plain: object) -> TaskDefinition:
    """The definition in the plain values of its YAML.

    Raises:
        TaskError: it breaks the schema.
    """
    root = Section(plain, "", ("version", "payment", "ml", "cluster"))
    if root.value("version") != 1 or isinstance(root.value("version"), bool):
        raise TaskError("version", f"found {describe(root.value('version'))}", "write 1")
    payment = root.section("payment", ("best-model-payment-amount",))
    return TaskDefinition(
        version=1,
        payment=Payment(payment.amount("best-model-payment-amount", MAX_PAYMENT)),
        ml=_ml(root.section("ml", ("dataset", "validation", "optimizer", "model", "evaluation-metrics"))),
        cluster=_cluster(root),
    )


def _ml(ml: Section) -> Ml:
    dataset = _dataset(ml)
    strategy = ml.section("validation", ("strategy",)).section("strategy", ("method", "size"))
    method = choose(strategy.at("method"), strategy.value("method"), get_args(Method))
    size = strategy.number("size", 0, 1, bounds="()")
    optimizer = _optimizer(ml)
    model = _model(ml)
    return Ml(dataset, Validation(Strategy(method, size)), optimizer, model, _metrics(ml, model.loss))


def _dataset(ml: Section) -> Dataset:
    names = ("format", "sha256", "training-set-size", "test-set-size", "source")
    section = ml.section("dataset", (*names, *_CSV_KEYS))
    kind = section.choice("format", get_args(Format))
    training, test = _share(section, "training-set-size"), _share(section, "test-set-size")
    if training + test != SEGMENTS:
        raise TaskError(
            section.at("test-set-size"),
            f"{test / SEGMENTS} and a training-set-size of {training / SEGMENTS} do not sum to 1",
            f"write {1 - training / SEGMENTS:.1f}",
        )
    for key in _CSV_KEYS:
        if kind != "CSV" and key in section:
            raise TaskError(section.at(key), f"only CSV has it, not {kind}", "remove the key")
    sha256 = None
    if "sha256" in section:
        sha256 = section.text("sha256", 64).lower()
        if not _SHA256.fullmatch(sha256):
            raise TaskError(
                section.at("sha256"), "not a SHA-256", "64 hexadecimal digits, as sha256sum prints them"
            )
    return Dataset(
        format=kind,
        training_set_size=training / SEGMENTS,
        test_set_size=test / SEGMENTS,
        source=_source(section, kind),
        sha256=sha256,
        delimiter=_delimiter(section),
        header=section.flag("header", True),
        label_column=_label_column(section),
    )


def _share(section: Section, key: str) -> int:
    """A share of the dataset in tenths, 1 to 9."""
    value = section.value(key)
    fix = "a share in tenths such as 0.8, since the dataset is cut into ten segments"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(section.at(key), value, f"a number: {fix}")
    # A decimal in tenths is the nearest binary number to that many tenths, and nothing else is.
    tenths = next((tenths for tenths in range(1, SEGMENTS) if value == tenths / SEGMENTS), None)
    if tenths is None:
        raise TaskError(
            section.at(key), f"found {describe(value)}", f"expected {fix}; 0.1 to 0.9 are accepted"
        )
    return tenths


def _source(dataset: Section, kind: Format) -> Source:
    source = dataset.section("source", ("features", "labels", *_CSV_KEYS))
    for key in _CSV_KEYS:
        if key in source:
            raise TaskError(source.at(key), "unknown key", f"it stands one level up: {dataset.at(key)}")
    features = source.text("features", MAX_PATH)
    labels = source.text("labels", MAX_PATH) if "labels" in source else None
    if kind == "CSV" and labels is not None:
        raise TaskError(
            source.at("labels"), "a CSV is one file", "remove the key and name ml.dataset.label-column"
        )
    if kind == "MNIST" and labels is None:
        raise TaskError(source.at("labels"), "missing", "MNIST has a second file, with the labels: name it")
    return Source(features, labels)


def _delimiter(dataset: Section) -> str:
    value = dataset.value("delimiter", ",")
    if value == "\t":
        return "\t"
    if (
        not isinstance(value, str)
        or len(value) != 1
        or not value.isprintable()
        or value.isalnum()
        or value in "\"'.+-"
    ):
        raise TaskError(
            dataset.at("delimiter"), f"found {describe(value)}", 'expected one such as "," ";" or "\\t"'
        )
    return value


def _label_column(dataset: Section) -> str | int | None:
    if "label-column" not in dataset:
        return None
    value = dataset.value("label-column")
    if isinstance(value, int):
        return dataset.integer("label-column", -MAX_PARAMETERS, MAX_PARAMETERS)
    if not isinstance(value, str):
        raise wrong_type(dataset.at("label-column"), value, "a column's name, or its position counted from 0")
    if dataset.flag("header", True) is False:
        raise TaskError(
            dataset.at("label-column"), "a name needs a header", "write its position, or header: true"
        )
    return dataset.text("label-column", MAX_PATH)


def _optimizer(ml: Section) -> Optimizer:
    names = ("type", "optimizer_initialization_parameters", "epochs", "batch-size", "initializer", "tau")
    section = ml.section("optimizer", names)
    kind = section.choice("type", get_args(OptimizerType))
    if "tau" in section:
        raise TaskError(section.at("tau"), "gradient compression does not exist yet", "remove the key")
    return Optimizer(
        type=kind,
        parameters=_optimizer_parameters(section, kind),
        epochs=section.integer("epochs", 1, MAX_EPOCHS),
        batch_size=section.integer("batch-size", 1, MAX_BATCH),
        initializer=_initializer(section),
    )


def _optimizer_parameters(optimizer: Section, kind: OptimizerType) -> SgdParameters | AdamParameters:
    key = "optimizer_initialization_parameters"
    given = optimizer.value(key)
    for name in given if isinstance(given, dict) else ():
        if name in _SYNONYMS:
            raise TaskError(f"{optimizer.at(key)}.{name}", "unknown key", f"did you mean {_SYNONYMS[name]}?")
        takers = [other for other, names in _OPTIMIZER_KEYS.items() if name in names]
        if takers and kind not in takers:
            fix = f"it is for {' and '.join(takers)}; {kind} takes {', '.join(_OPTIMIZER_KEYS[kind])}"
            raise TaskError(f"{optimizer.at(key)}.{name}", f"{kind} does not take it", fix)
    section = optimizer.section(key, _OPTIMIZER_KEYS[kind])
    rate = section.number("learning_rate", 0, _RATE, bounds="(]")
    if kind != "SGD":
        return AdamParameters(
            learning_rate=rate,
            weight_decay=section.number("weight_decay", 0, _RATE, 0.01 if kind == "AdamW" else 0.0),
            beta1=section.number("beta1", 0, 1, 0.9, bounds="[)"),
            beta2=section.number("beta2", 0, 1, 0.999, bounds="[)"),
            eps=section.number("eps", 0, 1, 1e-8, bounds="(]"),
            amsgrad=section.flag("amsgrad", False),
        )
    parameters = SgdParameters(
        learning_rate=rate,
        momentum=section.number("momentum", 0, 1, 0.0, bounds="[)"),
        weight_decay=section.number("weight_decay", 0, _RATE, 0.0),
        dampening=section.number("dampening", 0, 1, 0.0),
        nesterov=section.flag("nesterov", False),
    )
    if parameters.nesterov and (not parameters.momentum or parameters.dampening):
        raise TaskError(
            section.at("nesterov"), "needs a momentum and no dampening", "set momentum, such as 0.9"
        )
    return parameters


def _initializer(optimizer: Section) -> Initializer:
    if "initializer" not in optimizer:
        return Initializer()
    section = optimizer.section("initializer", ("name", "parameters"))
    name = section.choice("name", get_args(InitializerName))
    given = section.section("parameters", _INITIALIZER_KEYS[name], optional=True)
    parameters: Xavier | Kaiming | Normal | Uniform | Zeros
    if name == "Xavier":
        parameters = Xavier(given.number("gain", 0, _RATE, 1.0, bounds="(]"))
    elif name == "Kaiming":
        parameters = Kaiming(
            given.choice("mode", get_args(KaimingMode), "fan_in"),
            given.choice("nonlinearity", get_args(Nonlinearity), "relu"),
        )
    elif name == "Normal":
        parameters = Normal(
            given.number("mean", -_LARGE, _LARGE, 0.0), given.number("std", 0, _LARGE, 0.01, bounds="(]")
        )
    elif name == "Uniform":
        low, high = given.number("low", -_LARGE, _LARGE, -0.05), given.number("high", -_LARGE, _LARGE, 0.05)
        if low >= high:
            raise TaskError(given.at("high"), f"{high} is not above low, {low}", "write a larger number")
        parameters = Uniform(low, high)
    else:
        parameters = Zeros()
    return Initializer(name, parameters)


def _model(ml: Section) -> Model:
    section = ml.section("model", ("type", "hidden-units", "loss"))
    if section.value("type") != "MLP":
        fix = "write MLP: a multilayer perceptron is what there is"
        raise TaskError(section.at("type"), f"found {describe(section.value('type'))}", fix)
    loss = section.choice("loss", get_args(Loss))
    items = section.items("hidden-units", MAX_LAYERS)
    units = [_unit(path, item, last=index == len(items) - 1) for index, (path, item) in enumerate(items)]
    seen: set[int | str] = set()
    for (path, _), unit in zip(items, units, strict=True):
        if unit.id in seen:
            raise TaskError(f"{path}.id", f"{unit.id} names an earlier layer, too", "write one of its own")
        seen.add(unit.id)
    _check_output(items[-1][0], units[-1], loss)
    model = Model("MLP", tuple(units), loss)
    if (count := model.parameter_count(1)) > MAX_PARAMETERS:
        fix = f"use fewer nodes: at most {MAX_PARAMETERS} are accepted"
        raise TaskError(section.at("hidden-units"), f"the layers have {count} parameters or more", fix)
    return model


def _unit(path: str, item: object, *, last: bool) -> Dense | Dropout:
    if not isinstance(item, dict):
        raise wrong_type(path, item, f"a mapping with the keys {', '.join(_UNIT_KEYS['Dense'])}")
    if "type" not in item:
        raise TaskError(f"{path}.type", "missing", "write Dense or Dropout")
    kind = choose(f"{path}.type", item["type"], tuple(_UNIT_KEYS))
    for key in item:
        takers = [other for other, names in _UNIT_KEYS.items() if key in names]
        if takers and kind not in takers:
            raise TaskError(
                f"{path}.{key}", f"{kind} does not take it", f"{kind} takes {', '.join(_UNIT_KEYS[kind])}"
            )
    section = Section(item, path, _UNIT_KEYS[kind])
    if isinstance(section.value("id"), str):
        name: int | str = section.text("id", 64)
    else:
        name = section.integer("id", 0, MAX_PARAMETERS)
    if kind == "Dropout":
        return Dropout(name, section.number("rate", 0, 1, bounds="[)"))
    nodes = section.integer("nodes", 1, MAX_NODES_PER_LAYER)
    names = get_args(Activation)
    activation = (
        section.choice("activation", names, "Linear") if last else section.choice("activation", names)
    )
    if activation == "Softmax" and not last:
        raise TaskError(section.at("activation"), "Softmax is for the last layer", "write ReLU, for example")
    return Dense(name, nodes, activation)


def _check_output(path: str, unit: Dense | Dropout, loss: Loss) -> None:
    """The last layer must be able to make what the loss takes."""
    if isinstance(unit, Dropout):
        raise TaskError(
            path, "the last layer is Dropout", "end with a Dense layer: its nodes are the model's outputs"
        )
    if loss != "CrossEntropy":
        return
    if unit.nodes < 2:
        raise TaskError(
            f"{path}.nodes", "CrossEntropy tells at least 2 classes apart", "write the number of classes"
        )
    if unit.activation not in ("Linear", "Softmax"):
        fix = "write Softmax, or leave it out"
        raise TaskError(f"{path}.activation", f"CrossEntropy does not go with {unit.activation}", fix)


def _metrics(ml: Section, loss: Loss) -> tuple[Metric, ...]:
    names: tuple[Metric, ...] = get_args(Metric)
    metrics: list[Metric] = []
    for path, item in ml.items("evaluation-metrics", len(names)):
        metric = choose(path, item, names)
        if metric in metrics:
            raise TaskError(path, f"{metric} stands here twice", "remove one")
        if metric != "MSE" and loss != "CrossEntropy":
            raise TaskError(path, f"{metric} needs the loss CrossEntropy, not {loss}", "write MSE")
        metrics.append(metric)
    return tuple(metrics)


def _cluster(root: Section) -> Cluster:
    names = (
        "waiting-period",
        "min-nodes",
        "max-nodes",
        "max-committee-size",
        "min-committee-size",
        "sealed-votes",
        "requirements",
    )
    section = root.section("cluster", names, optional=True)
    default = Cluster()
    least = section.integer("min-committee-size", 2, MAX_COMMITTEE, default.min_committee_size)
    most = section.integer("max-committee-size", 2, MAX_COMMITTEE, max(default.max_committee_size, least))
    low = section.integer("min-nodes", 2, MAX_CLUSTER, max(default.min_nodes, least))
    high = section.integer("max-nodes", 2, MAX_CLUSTER, max(default.max_nodes, low))
    for key, value, other, bound in (
        ("max-committee-size", most, "min-committee-size", least),
        ("max-nodes", high, "min-nodes", low),
        ("min-nodes", low, "min-committee-size", least),
    ):
        if value < bound:
            raise TaskError(
                section.at(key), f"{value} is less than {other}, {bound}", f"write {bound} or more"
            )
    requirements = section.section("requirements", ("memory", "cpus"), optional=True)
    needs = Requirements()
    return Cluster(
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
