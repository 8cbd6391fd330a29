"""From the plain values of a task definition to its structs: every key honoured or refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from mlnet import task_spellings
from mlnet.task_fields import Section, choose, describe, expected, printable
from mlnet.task_problems import MAX_PROBLEMS, Enough, Mend, Problems
from mlnet.task_schema import (
    MAX_BATCH,
    MAX_CLASSES,
    MAX_CLUSTER,
    MAX_COLUMNS_NAMED,
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
    Decimal,
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
    Scale,
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
_ROOT_KEYS = ("version", "payment", "ml", "cluster")
_ML_KEYS = ("dataset", "validation", "optimizer", "model", "evaluation-metrics")
_CSV_KEYS = ("delimiter", "header", "label-column", "ignore-columns", "decimal", "comment")
_DATASET_KEYS = (
    "format",
    "sha256",
    "training-set-size",
    "test-set-size",
    "source",
    "scale",
    "classes",
    *_CSV_KEYS,
)
_OPTIMIZER_SECTION = (
    "type",
    "optimizer_initialization_parameters",
    "epochs",
    "batch-size",
    "initializer",
    "tau",
)
_PARAMETERS = "optimizer_initialization_parameters"
_MODEL_KEYS = ("type", "hidden-units", "loss")
_UNIT_KEYS: dict[str, tuple[str, ...]] = {
    "Dense": ("id", "type", "nodes", "activation"),
    "Dropout": ("id", "type", "rate"),
}
_ADAM_KEYS = ("learning_rate", "weight_decay", "beta1", "beta2", "eps", "amsgrad")
_OPTIMIZER_KEYS: dict[str, tuple[str, ...]] = {
    "SGD": ("learning_rate", "momentum", "weight_decay", "dampening", "nesterov"),
    "Adam": _ADAM_KEYS,
    "AdamW": _ADAM_KEYS,
}
_INITIALIZER_KEYS: dict[str, tuple[str, ...]] = {
    "Xavier": ("gain",),
    "Kaiming": ("mode", "nonlinearity"),
    "Normal": ("mean", "std"),
    "Uniform": ("low", "high"),
    "Zeros": (),
}
_CLUSTER_KEYS = (
    "waiting-period",
    "min-nodes",
    "max-nodes",
    "max-committee-size",
    "min-committee-size",
    "sealed-votes",
    "requirements",
)
_NO_COMPRESSION = "gradient compression does not exist yet: gradients are exchanged whole"
_LARGE = 1e6
_RATE = 1e3
_Bounds = Literal["[]", "(]", "[)", "()"]
_NUMBERS: dict[str, tuple[float, float, _Bounds]] = {
    "learning_rate": (0, _RATE, "(]"),
    "momentum": (0, 1, "[)"),
    "weight_decay": (0, _RATE, "[]"),
    "dampening": (0, 1, "[]"),
    "beta1": (0, 1, "[)"),
    "beta2": (0, 1, "[)"),
    "eps": (0, 1, "(]"),
    "gain": (0, _RATE, "(]"),
    "mean": (-_LARGE, _LARGE, "[]"),
    "std": (0, _LARGE, "(]"),
    "low": (-_LARGE, _LARGE, "[]"),
    "high": (-_LARGE, _LARGE, "[]"),
    "rate": (0, 1, "[)"),
}
"""Numbers that mean the same in whatever method takes them: lower and upper end, and which of them count."""
_SHARE_TOLERANCE = 1e-6
"""Relative: 0.8 in 32 bits is a share of eight tenths, too."""

KEYS: dict[str, tuple[str, ...]] = {
    "": _ROOT_KEYS,
    "payment": ("best-model-payment-amount",),
    "ml": _ML_KEYS,
    "ml.dataset": _DATASET_KEYS,
    "ml.dataset.source": ("features", "labels"),
    "ml.validation": ("strategy",),
    "ml.validation.strategy": ("method", "size"),
    "ml.optimizer": _OPTIMIZER_SECTION,
    f"ml.optimizer.{_PARAMETERS}": tuple(
        dict.fromkeys(name for keys in _OPTIMIZER_KEYS.values() for name in keys)
    ),
    "ml.optimizer.initializer": ("name", "parameters"),
    "ml.model": _MODEL_KEYS,
    "cluster": _CLUSTER_KEYS,
    "cluster.requirements": ("memory", "cpus"),
}
"""The keys of each section."""


ALL_KEYS = frozenset(
    name for keys in (*KEYS.values(), *_UNIT_KEYS.values(), *_INITIALIZER_KEYS.values()) for name in keys
)
"""Every key of the schema, wherever it belongs."""


def _homes() -> dict[str, str]:
    """The section of each key that belongs in one section only."""
    places: dict[str, list[str]] = {}
    for section, keys in KEYS.items():
        for key in keys:
            places.setdefault(key, []).append(section)
    return {key: sections[0] for key, sections in places.items() if len(sections) == 1 and sections[0]}


_HOMES = _homes()
METRICS: tuple[Metric, ...] = get_args(Metric)


def read(plain: object, *, most: int = MAX_PROBLEMS) -> TaskDefinition:
    """The definition in the plain values of its YAML.

    Args:
        plain: the values.
        most: so many errors are looked for.

    Raises:
        TaskError: it breaks the schema; with all errors up to ``most``.
    """
    problems = Problems(most, _HOMES)
    definition = examine(plain, problems)
    problems.check()
    if definition is None:
        raise AssertionError("no definition and no problem")
    return definition


def examine(plain: object, problems: Problems) -> TaskDefinition | None:
    """Note every problem of a definition; what it returns means something only if there is none."""
    try:
        root = Section(problems, plain, "", _ROOT_KEYS)
        _version(root)
        payment = root.section("payment", KEYS["payment"])
        return TaskDefinition(
            version=1,
            payment=Payment(payment.amount("best-model-payment-amount", MAX_PAYMENT)),
            ml=_ml(root.section("ml", _ML_KEYS, also=("tau",))),
            cluster=_cluster(root),
        )
    except Enough:
        return None


def new_problems(most: int = MAX_PROBLEMS) -> Problems:
    """A collector for :func:`examine`."""
    return Problems(most, _HOMES)


def _version(root: Section) -> None:
    value = root.value("version", mend=root.missing("version", 1))
    if "version" in root and (value != 1 or isinstance(value, bool)):
        # 0.1 is the version of the definitions from which this schema comes.
        same = value in ("1", "1.0", 0.1)
        root.wrong("version", f"found {describe(value)}", "write 1", 1 if same else Mend.NONE)


def _ml(ml: Section) -> Ml:
    if "tau" in ml:
        ml.remove("tau", _NO_COMPRESSION)
    dataset = _dataset(ml)
    strategy = ml.section("validation", ("strategy",)).section("strategy", ("method", "size"))
    method = strategy.choice("method", get_args(Method))
    size = strategy.number("size", 0, 1, bounds="()")
    optimizer = _optimizer(ml)
    model, loss = _model(ml)
    return Ml(dataset, Validation(Strategy(method, size)), optimizer, model, _metrics(ml, loss))


def _dataset(ml: Section) -> Dataset:
    section = ml.section("dataset", _DATASET_KEYS)
    given: Format = section.choice("format", get_args(Format))
    kind: Format | None = given if section.sound("format") else None
    training, test = _shares(section)
    for key in _CSV_KEYS:
        if kind not in (None, "CSV") and key in section:
            section.remove(key, f"only CSV has it, not {kind}")
    sha256 = None
    if "sha256" in section:
        sha256 = section.text("sha256", 64).lower()
        if section.sound("sha256") and not _SHA256.fullmatch(sha256):
            found = f"{describe(sha256)} is not a SHA-256: it has {len(sha256)} characters"
            section.wrong("sha256", found, "64 hexadecimal digits, as sha256sum prints them")
    return Dataset(
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
        value = task_spellings.number(value)
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


def _source(dataset: Section, kind: Format | None) -> Source:
    value = dataset.value("source", None)
    if isinstance(value, str) and kind != "MNIST":
        fix = "write the key features below source, with the path as its value"
        dataset.wrong("source", f"found {describe(value)}", fix, {"features": value})
        return Source(value)
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
    return Source(features, labels)


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
    """A list of texts and whole numbers, each once; None where there is none."""
    if key not in dataset:
        return None
    if dataset.value(key) == [] and key != "classes":
        return ()
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


def _optimizer(ml: Section) -> Optimizer:
    section = ml.section("optimizer", _OPTIMIZER_SECTION)
    kind = section.choice("type", get_args(OptimizerType))
    if "tau" in section:
        section.remove("tau", _NO_COMPRESSION)
    return Optimizer(
        type=kind,
        parameters=_optimizer_parameters(section, kind),
        epochs=section.integer("epochs", 1, MAX_EPOCHS),
        batch_size=section.integer("batch-size", 1, MAX_BATCH),
        initializer=_initializer(section),
    )


def _number(section: Section, key: str, default: object = Mend.NONE) -> float:
    low, high, bounds = _NUMBERS[key]
    if default is Mend.NONE:
        return section.number(key, low, high, bounds=bounds)
    return section.number(key, low, high, default, bounds=bounds)


def _whatever_it_is(section: Section) -> None:
    """Read what stands in a section of which it is unknown which keys it takes: its type is wrong."""
    for key in section.keys:
        if key in _NUMBERS:
            _number(section, key)
        elif key in ("nesterov", "amsgrad"):
            section.flag(key)
        elif key == "mode":
            section.choice(key, get_args(KaimingMode))
        elif key == "nonlinearity":
            section.choice(key, get_args(Nonlinearity))
        elif key == "nodes":
            section.integer(key, 1, MAX_NODES_PER_LAYER)
        elif key == "activation":
            section.choice(key, get_args(Activation))


def _of_others(section: Section, kind: str, keys: Mapping[str, tuple[str, ...]]) -> None:
    """Note the keys that only other kinds than this one take."""
    for key in section.keys:
        if key not in keys[kind]:
            takers = [other for other, names in keys.items() if key in names]
            fix = f"it is for {' and '.join(takers)}; {kind} takes {', '.join(keys[kind]) or 'none'}"
            section.wrong(key, f"{kind} does not take it", fix)


def _union(keys: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in keys.values() for name in names))


def _optimizer_parameters(optimizer: Section, kind: OptimizerType) -> SgdParameters | AdamParameters:
    every = _union(_OPTIMIZER_KEYS)
    known = _OPTIMIZER_KEYS[kind] if optimizer.sound("type") else every
    section = optimizer.section(_PARAMETERS, known, also=(*every, "betas"))
    _betas(section)
    if not optimizer.sound("type"):
        _whatever_it_is(section)
        section.value("learning_rate")
        return SgdParameters(1.0)
    _of_others(section, kind, _OPTIMIZER_KEYS)
    rate = _number(section, "learning_rate")
    if kind != "SGD":
        return AdamParameters(
            learning_rate=rate,
            weight_decay=_number(section, "weight_decay", 0.01 if kind == "AdamW" else 0.0),
            beta1=_number(section, "beta1", 0.9),
            beta2=_number(section, "beta2", 0.999),
            eps=_number(section, "eps", 1e-8),
            amsgrad=section.flag("amsgrad", False),
        )
    parameters = SgdParameters(
        learning_rate=rate,
        momentum=_number(section, "momentum", 0.0),
        weight_decay=_number(section, "weight_decay", 0.0),
        dampening=_number(section, "dampening", 0.0),
        nesterov=section.flag("nesterov", False),
    )
    together = section.sound("nesterov", "momentum", "dampening") and parameters.nesterov
    if together and (not parameters.momentum or parameters.dampening):
        section.wrong("nesterov", "needs a momentum and no dampening", "set momentum, such as 0.9")
    return parameters


def _betas(section: Section) -> None:
    """PyTorch's pair of Adam's beta1 and beta2 under one key."""
    if "betas" not in section:
        return
    value, path = section.take("betas"), section.at("betas")
    mend = None
    pair = isinstance(value, list) and len(value) == 2 and all(isinstance(beta, float) for beta in value)
    if pair and isinstance(value, list) and not {"beta1", "beta2"} & set(section.keys):
        mend = Mend(path, tuple(zip(("beta1", "beta2"), value, strict=True)))
    section.problems.add(path, "unknown key", "write beta1 and beta2 instead, each with a number", mend)


def _initializer(optimizer: Section) -> Initializer:
    if "initializer" not in optimizer:
        return Initializer()
    section = optimizer.section("initializer", ("name", "parameters"))
    name = section.choice("name", get_args(InitializerName))
    every = _union(_INITIALIZER_KEYS)
    known = _INITIALIZER_KEYS[name] if section.sound("name") else every
    given = section.section("parameters", known, also=(*every, "magnitude"), optional=True)
    _magnitude(given, name)
    if not section.sound("name"):
        _whatever_it_is(given)
        return Initializer()
    _of_others(given, name, _INITIALIZER_KEYS)
    parameters: Xavier | Kaiming | Normal | Uniform | Zeros
    if name == "Xavier":
        parameters = Xavier(_number(given, "gain", 1.0))
    elif name == "Kaiming":
        parameters = Kaiming(
            given.choice("mode", get_args(KaimingMode), "fan_in"),
            given.choice("nonlinearity", get_args(Nonlinearity), "relu"),
        )
    elif name == "Normal":
        parameters = Normal(_number(given, "mean", 0.0), _number(given, "std", 0.01))
    elif name == "Uniform":
        low, high = _number(given, "low", -0.05), _number(given, "high", 0.05)
        if given.sound("low", "high") and low >= high:
            given.wrong("high", f"{high} is not above low, {low}", "write a larger number")
        parameters = Uniform(low, high)
    else:
        parameters = Zeros()
    return Initializer(name, parameters)


def _magnitude(given: Section, name: str) -> None:
    """MXNet's parameter of Xavier, which draws from +-sqrt(2 * magnitude / (fan_in + fan_out))."""
    if "magnitude" not in given:
        return
    value, path = given.take("magnitude"), given.at("magnitude")
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _RATE
    if name != "Xavier" or not number or "gain" in given:
        given.problems.add(
            path, "unknown key", f"known here: {', '.join(_INITIALIZER_KEYS[name]) or 'nothing'}"
        )
        return
    gain = math.sqrt(float(str(value)) / 3)
    fix = f"write gain: {gain}, the square root of magnitude / 3, which draws from the same range"
    given.problems.add(path, "unknown key (MXNet has it)", fix, Mend(path, (("gain", gain),)))


def _model(ml: Section) -> tuple[Model, Loss | None]:
    section = ml.section("model", _MODEL_KEYS)
    kind = section.value("type", mend=section.missing("type", "MLP"))
    if "type" in section and kind != "MLP":
        fix = "write MLP: a multilayer perceptron is what there is"
        meant = isinstance(kind, str) and task_spellings.choice(kind, ("MLP",))
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
        _check_output(ml.problems, items[-1][0], units[-1], loss)
    model = Model("MLP", tuple(unit for unit in units if unit is not None), given)
    count = model.parameter_count(1)
    if count > MAX_PARAMETERS:
        fix = f"use fewer nodes: at most {MAX_PARAMETERS} are accepted"
        section.wrong("hidden-units", f"the layers have {count} parameters or more", fix)
    return model, loss


def _unit(problems: Problems, path: str, item: object, *, last: bool) -> Dense | Dropout | None:
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
        what = f"a mapping with the keys {', '.join(_UNIT_KEYS['Dense'])}"
        problems.add(path, f"found {describe(item)}", expected(item, what))
        return None
    section = Section(problems, item, path, _union(_UNIT_KEYS))
    kinds = tuple(_UNIT_KEYS)
    if "type" not in section:
        problems.add(f"{path}.type", "missing", "write Dense or Dropout")
        kind = "Dense" if "nodes" in section else "Dropout"
    else:
        kind = section.choice("type", kinds)
    if not section.sound("type"):
        _whatever_it_is(section)
        _unit_id(section)
        return None
    _of_others(section, kind, _UNIT_KEYS)
    name = _unit_id(section)
    if kind == "Dropout":
        return Dropout(name, _number(section, "rate"))
    nodes = section.integer("nodes", 1, MAX_NODES_PER_LAYER)
    names: tuple[Activation, ...] = get_args(Activation)
    activation = (
        section.choice("activation", names, "Linear") if last else section.choice("activation", names)
    )
    if activation == "Softmax" and not last:
        section.wrong("activation", "Softmax is for the last layer", "write ReLU, for example")
    return Dense(name, nodes, activation)


def _unit_id(section: Section) -> int | str:
    """The id of a layer; an empty text if it has no good one."""
    if isinstance(section.value("id"), str):
        name: int | str = section.text("id", 64)
    else:
        name = section.integer("id", 0, MAX_PARAMETERS)
    return name if section.sound("id") else ""


def _check_output(problems: Problems, path: str, unit: Dense | Dropout, loss: Loss | None) -> None:
    """The last layer must be able to make what the loss takes."""
    if isinstance(unit, Dropout):
        fix = "end with a Dense layer: its nodes are the model's outputs"
        problems.add(path, "the last layer is Dropout", fix)
        return
    if loss != "CrossEntropy":
        return
    if unit.nodes < 2 and problems.sound(f"{path}.nodes"):
        fix = "write the number of classes"
        problems.add(f"{path}.nodes", "CrossEntropy tells at least 2 classes apart", fix)
    if unit.activation not in ("Linear", "Softmax") and problems.sound(f"{path}.activation"):
        fix = "write Softmax, or leave it out"
        problems.add(f"{path}.activation", f"CrossEntropy does not go with {unit.activation}", fix)


def _metrics(ml: Section, loss: Loss | None) -> tuple[Metric, ...]:
    names = METRICS
    value = ml.value("evaluation-metrics", None)
    only = task_spellings.choice(value, names) if isinstance(value, str) else None
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


def _cluster(root: Section) -> Cluster:
    section = root.section("cluster", _CLUSTER_KEYS, optional=True)
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
        if section.sound(key, other) and value < bound:
            section.wrong(key, f"{value} is less than {other}, {bound}", f"write {bound} or more")
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
