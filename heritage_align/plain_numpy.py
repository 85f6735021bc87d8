"""Arrays and numbers of numpy out of pickles, without numpy's own unpickling of their types.

``numpy.dtype.__setstate__`` believes what a pickle says. Of a type that claims to have Python objects among its bytes
these are pointers: to look at such a number, or to forget it, ends the process with a signal (numpy 2.4). Here a type
is its name and its byte order.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

_KINDS = "biufcUS"  # numbers, and texts of a fixed length


class _Type:
    """Stands for ``numpy.dtype``."""

    def __init__(self, name: Any, align: Any = False, copy: Any = True) -> None:
        found = np.dtype(name) if isinstance(name, str) else None
        if found is None or found.kind not in _KINDS:
            raise pickle.UnpicklingError(f"refuses numpy's type {str(name)[:40]}")
        self.type = found

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) < 5 or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("refuses a type of numpy with parts")
        if state[1] in ("<", ">"):
            self.type = self.type.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """Stands for ``numpy.ndarray``; `_reconstruct` makes it, and pickle gives it its content."""

    def __new__(cls, *_: Any) -> _Array:
        raise pickle.UnpicklingError("refuses an array without content")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, fortran, data = state[-4:]
        data = data.encode("latin1") if isinstance(data, str) else data  # of Python 2
        if not isinstance(kind, _Type) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("refuses an array that is not made of bytes")
        plain: Any = (1, shape, kind.type, bool(fortran), data)  # numpy annotates its own bool, and takes none
        super().__setstate__(plain)


def _reconstruct(*_: Any) -> _Array:
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _scalar(kind: Any, data: Any) -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(kind, _Type) or not isinstance(data, bytes) or len(data) != kind.type.itemsize:
        raise pickle.UnpicklingError("refuses a number that is not made of its bytes")
    return np.frombuffer(data, kind.type)[0] if data else kind.type.type()  # an empty text


STAND_INS: dict[str, Any] = {
    "numpy.dtype": _Type,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
}
"""What pickles of arrays and numbers name, of numpy 1 and 2 -> what is called in its place."""


def numpy_stand_in(module: str, name: str) -> Any:
    """Return what a pickle gets for a name of numpy, for `pickle.Unpickler.find_class`; None for what it must not have.

    Args:
        module: that the pickle names.
        name: in the module.
    """
    return STAND_INS.get(f"{module}.{name}")
