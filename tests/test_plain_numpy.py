"""Pickles of numpy's arrays and numbers: what they hold comes out, and what lies about its type ends no process."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from heritage_align.checkpoints import read_content
from heritage_align.errors import CheckpointError
from heritage_align.plain_numpy import numpy_stand_in

multiarray = (getattr(np, "_core", None) or np.core).multiarray


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = numpy_stand_in(module, name)
        if found is None and (module, name) != ("_codecs", "encode"):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return found or super().find_class(module, name)


class Called:
    """Pickled as a call, with a state that the result gets."""

    def __init__(self, function: Any, args: tuple[Any, ...], state: Any = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.parts


KINDS = st.one_of(
    arrays.integer_dtypes(endianness="?"), arrays.floating_dtypes(endianness="?"), arrays.unicode_string_dtypes()
)


@given(
    arrays.arrays(KINDS | arrays.boolean_dtypes(), arrays.array_shapes(min_dims=0)),
    st.integers(2, 4),
    st.booleans(),
)
def test_arrays_and_numbers_come_back(array: np.ndarray[Any, Any], protocol: int, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    found = _Plain(io.BytesIO(pickle.dumps(array, protocol))).load()
    assert found.dtype == array.dtype.newbyteorder("=")  # numpy itself puts bytes into the machine's order
    np.testing.assert_array_equal(found, array)
    if array.size:
        number = array.reshape(-1)[0]
        protocol = max(protocol, 3)  # 2 has no way to write the bytes of an empty text
        assert _Plain(io.BytesIO(pickle.dumps(number, protocol))).load().tobytes() == number.tobytes()


OBJECT = np.dtype("O")
POINTER = b"A" * 8
"""What a type that claims to hold a Python object takes for its address."""
HIDDEN = Called(np.dtype, ("V8", False, True), (4, "|", None, ("a",), {"a": (OBJECT, 0)}, 8, 1, 0, None))
PLAIN = np.dtype("f8")
EMPTY = (np.ndarray, (0,), b"b")
LIES = {
    "a number of a type with a hidden object": Called(multiarray.scalar, (HIDDEN, POINTER)),
    "an array of a type with a hidden object": Called(
        multiarray._reconstruct, EMPTY, (1, (1,), HIDDEN, False, POINTER)
    ),
    "parts of a plain type": Called(np.dtype, ("f8", False, True), (4, "|", None, ("a",), {"a": (PLAIN, 0)}, 8, 1, 1)),
    "an object": Called(multiarray.scalar, (OBJECT, POINTER)),
    "an array of objects": Called(multiarray._reconstruct, EMPTY, (1, (1,), OBJECT, False, [3])),
    "a list for bytes": Called(multiarray._reconstruct, EMPTY, (1, (1,), PLAIN, False, [3])),
    "too few bytes": Called(multiarray._reconstruct, EMPTY, (1, (2**40,), PLAIN, False, POINTER)),
    "too few bytes of a number": Called(multiarray.scalar, (PLAIN, b"A")),
    "a side below zero": Called(multiarray._reconstruct, EMPTY, (1, (-1,), PLAIN, False, POINTER)),
    "an array without content": Called(np.ndarray, ((2**40,),)),
    "a state of other parts": Called(multiarray._reconstruct, EMPTY, (1,)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_type_that_lies_is_refused(lie: str, tmp_path: Path) -> None:
    data = pickle.dumps({"a": LIES[lie]}, 2)
    with pytest.raises((pickle.UnpicklingError, ValueError, TypeError)):
        _Plain(io.BytesIO(data)).load()
    torch.save({"a": LIES[lie]}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt: "):
        read_content(tmp_path / "w.pt")


def test_what_is_not_numpys_is_none() -> None:
    assert numpy_stand_in("os", "system") is None
    assert numpy_stand_in("numpy", "load") is None
