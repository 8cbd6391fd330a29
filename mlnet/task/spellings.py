"""What authors of task definitions write for what this project calls otherwise.

Other libraries name the same things differently, people write quantities as they say them, and YAML 1.1 knows
words that are texts in YAML 1.2. Each function here returns what was certainly meant, or None.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from decimal import Decimal, InvalidOperation

_MAX_TEXT = 64
"""Characters of the longest text that is compared with the known words: none of them is nearly as long."""

_KEYS = {
    "act": "activation",
    "activationfunction": "activation",
    "amount": "best-model-payment-amount",
    "batch": "batch-size",
    "cores": "cpus",
    "cpu": "cpus",
    "criterion": "loss",
    "dropout": "rate",
    "epoch": "epochs",
    "epsilon": "eps",
    "hiddenlayers": "hidden-units",
    "labelcol": "label-column",
    "layers": "hidden-units",
    "lossfn": "loss",
    "lossfunction": "loss",
    "lr": "learning_rate",
    "mem": "memory",
    "metrics": "evaluation-metrics",
    "name": "id",
    "nepochs": "epochs",
    "neurons": "nodes",
    "numepochs": "epochs",
    "maxepochs": "epochs",
    "numtrainepochs": "epochs",
    "outfeatures": "nodes",
    "optimizerparameters": "optimizer_initialization_parameters",
    "optimizerparams": "optimizer_initialization_parameters",
    "parameters": "optimizer_initialization_parameters",
    "p": "rate",
    "path": "features",
    "params": "optimizer_initialization_parameters",
    "ram": "memory",
    "sep": "delimiter",
    "separator": "delimiter",
    "testsize": "test-set-size",
    "threads": "cpus",
    "trainingsize": "training-set-size",
    "trainsetsize": "training-set-size",
    "trainsize": "training-set-size",
    "units": "nodes",
}
_NAMES = {
    "acc": "Accuracy",
    "categoricalaccuracy": "Accuracy",
    "sparsecategoricalaccuracy": "Accuracy",
    "categoricalcrossentropy": "CrossEntropy",
    "crossentropyloss": "CrossEntropy",
    "softmaxcrossentropy": "CrossEntropy",
    "softmaxcrossentropyloss": "CrossEntropy",
    "sparsecategoricalcrossentropy": "CrossEntropy",
    "meansquarederror": "MSE",
    "meansquarederrorloss": "MSE",
    "mseloss": "MSE",
    "identity": "Linear",
    "logistic": "Sigmoid",
    "stochasticgradientdescent": "SGD",
    "glorot": "Xavier",
    "glorotuniform": "Xavier",
    "xavieruniform": "Xavier",
    "he": "Kaiming",
    "heuniform": "Kaiming",
    "kaiminguniform": "Kaiming",
    "zero": "Zeros",
    "dnn": "MLP",
    "fcdnn": "MLP",
    "feedforward": "MLP",
    "fullyconnected": "MLP",
    "multilayerperceptron": "MLP",
    "fc": "Dense",
    "linear": "Dense",
    "idx": "MNIST",
}
"""A name counts where it is one of those that are accepted: ``linear`` is a layer, or an activation."""

_CALL = re.compile(r"(?:[A-Za-z_]+\.)+([A-Za-z]+)(?:\(\))?")
_FLAGS = dict.fromkeys(("true", "yes", "on", "y"), True) | dict.fromkeys(("false", "no", "off", "n"), False)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([a-z]+) ?")
_UNITS_MS = {
    **dict.fromkeys(("d", "day", "days"), 86_400_000),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60_000),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1000),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1),
}
_SIZES = ("KB", "MB", "GB", "TB"), ("KiB", "MiB", "GiB", "TiB")


def fold(name: str) -> str:
    """The name without what spellings differ in: case, hyphens, underscores, blanks."""
    return re.sub(r"[-_ \xa0]", "", name).casefold()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that the unknown one was most likely meant to be."""
    if len(name) > _MAX_TEXT:
        return None
    folded = {fold(candidate): candidate for candidate in known}
    begun = [candidate for candidate in folded if len(name) > 3 and candidate.startswith(fold(name))]
    # A name that was cut short is nearer to the whole than to another name of its length.
    found = begun if len(begun) == 1 else difflib.get_close_matches(fold(name), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def key(name: str, known: Collection[str]) -> str | None:
    """The one of the keys that was certainly meant: spelled otherwise, or with one letter wrong."""
    if len(name) > _MAX_TEXT:
        return None
    spelled = fold(name)
    for candidate in known:
        if spelled == fold(candidate) or _KEYS.get(spelled) == candidate:
            return candidate
    near = [
        candidate for candidate in known if min(len(name), len(candidate)) > 4 and _one_slip(name, candidate)
    ]
    return near[0] if len(near) == 1 else None


def choice(name: str, names: Collection[str]) -> str | None:
    """The one of the names that was certainly meant. Slips are not mended: NAdam is not Adam."""
    if len(name) > _MAX_TEXT:
        return None
    # Also nn.ReLU() and torch.optim.Adam.
    spelled = fold(_CALL.sub(r"\1", name.strip()))
    for candidate in names:
        if spelled == fold(candidate) or _NAMES.get(spelled) == candidate:
            return candidate
    return None


def _one_slip(one: str, other: str) -> bool:
    """Whether a letter is missing, too many or wrong, or two neighbours are exchanged."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    start = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[:2][::-1] and a[2:] == b[2:])


def number(text: str) -> int | float | None:
    """The number in a text: ``"30"``, ``1_000``, ``0,1``, ``20 %``, ``5,``. Not ``1,000``, which may be 1."""
    text = text.strip().rstrip(",;").replace("\u2212", "-")
    if not 0 < len(text) <= _MAX_TEXT:
        return None
    share = text.endswith("%")
    text = re.sub(r"(?<=[0-9])_(?=[0-9])", "", text.removesuffix("%").rstrip())
    if text.count(",") == 1 and "." not in text and not _THOUSANDS.fullmatch(text):
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return None
    try:
        exact = Decimal(text) / (100 if share else 1)
    except InvalidOperation:
        return None
    if exact == exact.to_integral_value() and abs(exact) < 10**15:
        return int(exact)
    return float(exact)


def flag(text: str) -> bool | None:
    """``yes``, ``on``, ``"True"`` and the like, as YAML 1.1 and people have them."""
    return _FLAGS.get(text.strip().lower())


def duration(text: str) -> str | None:
    """``15 minutes`` or ``1.5 h`` as ``15m`` and ``1h30m``."""
    text = text.strip().lower()
    parts = _PART.findall(text) if len(text) <= _MAX_TEXT else []
    if not parts or _PART.sub("", text) or any(unit not in _UNITS_MS for _, unit in parts):
        return None
    exact = sum(Decimal(amount) * _UNITS_MS[unit] for amount, unit in parts)
    if exact != int(exact) or not exact:
        return None
    rest, written = int(exact), ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        amount, rest = divmod(rest, size)
        written += f"{amount}{unit}" if amount else ""
    return written


def size(text: str) -> str | None:
    """``512 mib``, ``2gb`` or ``1.5GiB`` as ``512MiB``, ``2GB``, ``1536MiB``. Not ``512M``: 1000 or 1024?"""
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([kmgt]i?b|[kmgt]i|b|bytes)", text.strip().lower())
    if not found:
        return None
    amount, unit = Decimal(found[1]), found[2]
    if unit in ("b", "bytes"):
        return f"{int(amount)}B" if amount == int(amount) else None
    family = _SIZES["i" in unit]
    step = 1024 if "i" in unit else 1000
    power = "kmgt".index(unit[0])
    while amount != int(amount) and power:
        amount, power = amount * step, power - 1
    return f"{int(amount)}{family[power]}" if amount == int(amount) else None
