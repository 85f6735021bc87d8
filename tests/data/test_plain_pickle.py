"""Pickles of Chinese-CLIP's pairs are read, and nothing that a pickle could do is done."""

from __future__ import annotations

import os
import pickle
import pickletools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.data.plain_pickle import read_plain_pickle

plain = st.recursive(
    st.integers() | st.text(st.characters(codec="utf-8")),
    lambda values: st.lists(values, max_size=5).map(tuple),
    max_leaves=12,
)


@given(plain, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_reads_what_pickle_wrote(value: object, protocol: int) -> None:
    assert read_plain_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_repeated_object_comes_out_of_the_memo(protocol: int) -> None:
    text = "".join(["龙", "纹"])
    data = pickle.dumps((text, text, text), protocol)
    assert any(opcode.name.endswith("GET") for opcode, _, _ in pickletools.genops(data))
    assert read_plain_pickle(data) == (text, text, text)


class Attack:
    """A pickle of this would create a folder while it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused_and_does_not_run(tmp_path_factory: pytest.TempPathFactory, protocol: int) -> None:
    target = tmp_path_factory.mktemp("attack") / "ran"
    with pytest.raises(ValueError, match=r"refused pickle opcode (STACK_)?GLOBAL"):
        read_plain_pickle(pickle.dumps((1, 2, Attack(str(target))), protocol))
    assert not target.exists()


@pytest.mark.parametrize("value", [[1], {"a": 1}, 1.5, None, True, b"bytes", {1}])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="refused pickle opcode"):
        read_plain_pickle(pickle.dumps(value, 4))


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04", b"garbage", b".", b"(.", b"\x85.", b"h\x05.", b"t.", b"K\x01K\x02."]
)
def test_broken_pickles_are_value_errors(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_plain_pickle(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = read_plain_pickle(data)
    except ValueError:
        return
    assert isinstance(value, (int, str, tuple))


def test_tuples_without_end_are_refused() -> None:
    """A few bytes make a tuple that holds another twice, that a third twice: to print or to hash it does not end."""
    twice = b"K\x01\x85" + b"".join(b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86" for level in range(31))
    deep = b"K\x01" + b"\x85" * 200_000  # whose hash ends the process with a signal
    wide = pickle.dumps(tuple(range(20_000)), 2)
    for data in (twice + b".", deep + b".", wide):
        with pytest.raises(ValueError, match="refused pickle: tuples in more than 32 levels, or of more than 10000"):
            read_plain_pickle(data)
