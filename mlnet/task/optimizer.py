"""How the model is trained: the optimizer of a task definition and its initializer."""

from __future__ import annotations

import math
from typing import get_args

from mlnet.task.fields import Section
from mlnet.task.keys import INITIALIZER_KEYS, OPTIMIZER_KEYS, OPTIMIZER_PARAMETERS, OPTIMIZER_SECTION
from mlnet.task.kinds import MAX_RATE, read_any, read_number, refuse_others, union
from mlnet.task.problems import Mend
from mlnet.task.schema import (
    MAX_BATCH,
    MAX_EPOCHS,
    AdamParameters,
    Initializer,
    InitializerName,
    Kaiming,
    KaimingMode,
    Nonlinearity,
    Normal,
    OptimizerSpec,
    OptimizerType,
    SgdParameters,
    Uniform,
    Xavier,
    Zeros,
)

NO_COMPRESSION = "gradient compression does not exist yet: gradients are exchanged whole"


def read_optimizer(ml: Section) -> OptimizerSpec:
    """The section ``ml.optimizer``."""
    section = ml.section("optimizer", OPTIMIZER_SECTION)
    kind = section.choice("type", get_args(OptimizerType))
    if "tau" in section:
        section.remove("tau", NO_COMPRESSION)
    return OptimizerSpec(
        type=kind,
        parameters=_optimizer_parameters(section, kind),
        epochs=section.integer("epochs", 1, MAX_EPOCHS),
        batch_size=section.integer("batch-size", 1, MAX_BATCH),
        initializer=_initializer(section),
    )


def _optimizer_parameters(optimizer: Section, kind: OptimizerType) -> SgdParameters | AdamParameters:
    every = union(OPTIMIZER_KEYS)
    known = OPTIMIZER_KEYS[kind] if optimizer.sound("type") else every
    section = optimizer.section(OPTIMIZER_PARAMETERS, known, also=(*every, "betas"))
    _betas(section)
    if not optimizer.sound("type"):
        read_any(section)
        section.value("learning_rate")
        return SgdParameters(1.0)
    refuse_others(section, kind, OPTIMIZER_KEYS)
    rate = read_number(section, "learning_rate")
    if kind != "SGD":
        return AdamParameters(
            learning_rate=rate,
            weight_decay=read_number(section, "weight_decay", 0.01 if kind == "AdamW" else 0.0),
            beta1=read_number(section, "beta1", 0.9),
            beta2=read_number(section, "beta2", 0.999),
            eps=read_number(section, "eps", 1e-8),
            amsgrad=section.flag("amsgrad", False),
        )
    parameters = SgdParameters(
        learning_rate=rate,
        momentum=read_number(section, "momentum", 0.0),
        weight_decay=read_number(section, "weight_decay", 0.0),
        dampening=read_number(section, "dampening", 0.0),
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
    every = union(INITIALIZER_KEYS)
    known = INITIALIZER_KEYS[name] if section.sound("name") else every
    given = section.section("parameters", known, also=(*every, "magnitude"), optional=True)
    _magnitude(given, name)
    if not section.sound("name"):
        read_any(given)
        return Initializer()
    refuse_others(given, name, INITIALIZER_KEYS)
    parameters: Xavier | Kaiming | Normal | Uniform | Zeros
    if name == "Xavier":
        parameters = Xavier(read_number(given, "gain", 1.0))
    elif name == "Kaiming":
        parameters = Kaiming(
            given.choice("mode", get_args(KaimingMode), "fan_in"),
            given.choice("nonlinearity", get_args(Nonlinearity), "relu"),
        )
    elif name == "Normal":
        parameters = Normal(read_number(given, "mean", 0.0), read_number(given, "std", 0.01))
    elif name == "Uniform":
        low, high = read_number(given, "low", -0.05), read_number(given, "high", 0.05)
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
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_RATE
    if name != "Xavier" or not number or "gain" in given:
        given.problems.add(
            path, "unknown key", f"known here: {', '.join(INITIALIZER_KEYS[name]) or 'nothing'}"
        )
        return
    gain = math.sqrt(float(str(value)) / 3)
    fix = f"write gain: {gain}, the square root of magnitude / 3, which draws from the same range"
    given.problems.add(path, "unknown key (MXNet has it)", fix, Mend(path, (("gain", gain),)))
