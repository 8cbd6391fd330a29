"""The arguments of kernels: any buffer of the right integers, without a copy, or nested sequences."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    class _Array(Protocol):
        """A numpy array, whose type says only from Python 3.12 on that it is a buffer."""

        @property
        def __array_interface__(self) -> dict[str, Any]: ...

    AnyBuffer: TypeAlias = ReadableBuffer | _Array

_FORMATS = {
    # numpy names int64 "l" on Linux and macOS and "q" on Windows; the item size tells what it is.
    "q": ({"q", "l", "@q", "@l"}, 8, "int64"),
    "i": ({"i", "l", "@i", "@l"}, 4, "int32"),
}


def integers(
    name: str, value: AnyBuffer | Sequence[Any], typecode: Literal["i", "q"], ndim: int
) -> tuple[tuple[int, ...], memoryview]:
    """View an argument as an array of integers.

    Args:
        name: what to call the argument in errors.
        value: a buffer of these integers in native byte order, of any strides; or sequences nested ``ndim``
            deep.
        typecode: ``q`` for int64, ``i`` for int32.
        ndim: the number of dimensions that it must have.

    Returns:
        Its shape, and the array itself; when the shape contains a zero, the array is of no use.

    Raises:
        TypeError: it does not hold such integers.
        ValueError: wrong number of dimensions, sequences of unequal length, or an integer that does not fit.
    """
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return _from_sequences(name, value, typecode, ndim)
    formats, itemsize, dtype = _FORMATS[typecode]
    if view.format not in formats or view.itemsize != itemsize:
        raise TypeError(
            f"{name}: must be {dtype} in native byte order, not the buffer format {view.format!r}"
        )
    if view.ndim != ndim:
        raise ValueError(f"{name}: must have {ndim} dimensions, not {view.ndim}")
    return tuple(view.shape or ()), view


def _from_sequences(
    name: str, value: object, typecode: Literal["i", "q"], ndim: int
) -> tuple[tuple[int, ...], memoryview]:
    dtype = _FORMATS[typecode][2]
    shape: list[int] = []
    level: list[Any] = [value]
    for axis in range(ndim):
        if not all(isinstance(item, Sequence) and not isinstance(item, str) for item in level):
            raise TypeError(f"{name}: must be a buffer of {dtype} or sequences nested {ndim} deep")
        # All axes are compared before any integer is looked at: ragged input gets an error that names the
        # axis.
        lengths = {len(item) for item in level}
        if len(lengths) > 1:
            raise ValueError(
                f"{name}: the sequences along axis {axis} have different lengths {sorted(lengths)}"
            )
        shape.append(lengths.pop() if lengths else 0)
        level = [item for sequence in level for item in sequence]
    try:
        flat = memoryview(array(typecode, level))
    except TypeError as error:
        raise TypeError(f"{name}: must hold integers: {error}") from None
    except OverflowError as error:
        raise ValueError(f"{name}: an integer does not fit {dtype}: {error}") from None
    return tuple(shape), flat.cast("B").cast(typecode, shape) if all(shape) else flat


def octets(name: str, value: AnyBuffer) -> memoryview:
    """View a buffer of any element type as its bytes, without a copy.

    Raises:
        TypeError: it is not a buffer.
        ValueError: its bytes are not contiguous.
    """
    view = memoryview(value)  # type: ignore[arg-type]
    if not view.c_contiguous:
        raise ValueError(f"{name}: must be C-contiguous")
    return view.cast("B") if view.nbytes else memoryview(b"")
