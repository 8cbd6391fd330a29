"""What sections have in common whose keys depend on the kind that they name, such as Adam or Xavier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from mlnet.task.fields import Section
from mlnet.task.layers.dense import MAX_NODES_PER_LAYER, Activation
from mlnet.task.problems import Mend
from mlnet.task.schema import KaimingMode, Nonlinearity

MAX_RATE = 1e3
"""Of a learning rate, decay or gain: with a larger one no training converges."""
_LARGE = 1e6
"""Of a weight at the beginning. Far below the largest float32, so that sums of products are finite."""
_Bounds = Literal["[]", "(]", "[)", "()"]
NUMBERS: dict[str, tuple[float, float, _Bounds]] = {
    "learning_rate": (0, MAX_RATE, "(]"),
    "momentum": (0, 1, "[)"),
    "weight_decay": (0, MAX_RATE, "[]"),
    "dampening": (0, 1, "[]"),
    "beta1": (0, 1, "[)"),
    "beta2": (0, 1, "[)"),
    "eps": (0, 1, "(]"),
    "gain": (0, MAX_RATE, "(]"),
    "mean": (-_LARGE, _LARGE, "[]"),
    "std": (0, _LARGE, "(]"),
    "low": (-_LARGE, _LARGE, "[]"),
    "high": (-_LARGE, _LARGE, "[]"),
    "rate": (0, 1, "[)"),
}
"""Numbers that mean the same in whatever method takes them: lower and upper end, and which of them count."""


def read_number(section: Section, key: str, default: object = Mend.NONE) -> float:
    """A number of :data:`NUMBERS`, within its bounds; ``default`` where the key is missing."""
    low, high, bounds = NUMBERS[key]
    if default is Mend.NONE:
        return section.number(key, low, high, bounds=bounds)
    return section.number(key, low, high, default, bounds=bounds)


def read_any(section: Section) -> None:
    """Read a section whose type is wrong: the keys that some type takes are checked, others left alone."""
    for key in section.keys:
        if key in NUMBERS:
            read_number(section, key)
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


def refuse_others(section: Section, kind: str, keys: Mapping[str, tuple[str, ...]]) -> None:
    """Note the keys that only other kinds than this one take."""
    for key in section.keys:
        if key not in keys[kind]:
            takers = [other for other, names in keys.items() if key in names]
            fix = f"it is for {' and '.join(takers)}; {kind} takes {', '.join(keys[kind]) or 'none'}"
            section.wrong(key, f"{kind} does not take it", fix)


def union(keys: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The keys that any kind takes, each once."""
    return tuple(dict.fromkeys(name for names in keys.values() for name in names))
