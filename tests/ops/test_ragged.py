"""Ragged: construction, selection and what it refuses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heritage_align import ops
from heritage_align.ops.planner import text_bins

lengths_lists = st.lists(st.integers(0, 5), min_size=1, max_size=8)


def numbered(lengths: list[int], dim: int = 3) -> ops.Ragged:
    total = sum(lengths)
    return ops.Ragged(torch.arange(total * dim).float().reshape(total, dim), torch.tensor([0, *lengths]).cumsum(0))


@given(lengths_lists)
def test_padded_and_list_agree(lengths: list[int]) -> None:
    ragged = numbered(lengths)
    padded = torch.nn.utils.rnn.pad_sequence([*ragged, torch.zeros(6, 3)], batch_first=True)[:-1]
    for other in (ops.Ragged.from_list(list(ragged)), ops.Ragged.from_padded(padded, ragged.lengths)):
        assert torch.equal(other.values, ragged.values)
        assert torch.equal(other.offsets, ragged.offsets)
    assert ragged.lengths.tolist() == lengths
    assert ragged.max_length == max(lengths)
    assert ragged.factor_size == int(ragged.factor_offsets[-1]) == sum(n * (n + 1) // 2 for n in lengths)


@given(lengths_lists, st.data())
def test_select_slice_and_concat(lengths: list[int], data: st.DataObject) -> None:
    ragged = numbered(lengths)
    ids = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6))
    chosen = ragged.select(ids)
    assert len(chosen) == len(ids)
    for place, i in enumerate(ids):
        assert torch.equal(chosen.item(place), ragged.item(i))
    start = data.draw(st.integers(0, len(lengths)))
    joined = ops.Ragged.concat([ragged[:start], ragged[start:]])
    assert torch.equal(joined.values, ragged.values)
    assert torch.equal(joined.offsets, ragged.offsets)
    backwards = ragged[::-1]
    assert torch.equal(backwards.item(0), ragged.item(-1))


def test_slices_are_views() -> None:
    ragged = numbered([2, 0, 3])
    assert ragged[1:].values.data_ptr() == ragged.values[2:].data_ptr()


def test_what_was_found_out_stays_with_the_offsets() -> None:
    ragged = ops.Ragged.from_list([torch.randn(3, 4), torch.randn(70, 4), torch.randn(5, 4)])
    bins = text_bins(ragged)
    half = ragged.to(dtype=torch.float16)
    assert text_bins(half) is bins
    assert half.factor_offsets is not None
    assert text_bins(ragged.select([1, 2])) is not bins
    assert (half.dtype, half.device) == (half.values.dtype, half.values.device)


def test_to_changes_dtype_and_keeps_offsets() -> None:
    ragged = numbered([1, 2])
    half = ragged.to(dtype=torch.float16)
    assert half.dtype == torch.float16
    assert half.max_length == 2
    quantised = ops.quantise(ragged)
    torch.testing.assert_close(quantised.to(dtype=torch.float32).values, ragged.values, atol=0.05, rtol=0)
    torch.testing.assert_close(quantised.item(1), quantised.dequantised()[1:])


def test_quantise_maps_the_largest_to_127_and_keeps_zero_rows() -> None:
    ragged = ops.Ragged(torch.tensor([[0.5, -2.0], [0.0, 0.0]]), torch.tensor([0, 2]))
    quantised = ops.quantise(ragged)
    assert quantised.values.tolist() == [[32, -127], [0, 0]]
    assert quantised.scales is not None
    torch.testing.assert_close(quantised.scales, torch.tensor([2.0 / 127, 1.0]))


BAD = [
    ("values must have shape", lambda: ops.Ragged(torch.zeros(3), torch.tensor([0, 3]))),
    ("values must have dtype", lambda: ops.Ragged(torch.zeros(3, 2, dtype=torch.int32), torch.tensor([0, 3]))),
    ("offsets must have dtype", lambda: ops.Ragged(torch.zeros(3, 2), torch.tensor([0.0, 3.0]))),
    ("offsets must have shape", lambda: ops.Ragged(torch.zeros(3, 2), torch.tensor([[0, 3]]))),
    ("offsets must hold n \\+ 1", lambda: ops.Ragged(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))),
    ("offsets must start at 0", lambda: ops.Ragged(torch.zeros(3, 2), torch.tensor([1, 3]))),
    ("offsets must ascend; offsets\\[1\\] = 2", lambda: ops.Ragged(torch.zeros(3, 2), torch.tensor([0, 2, 1, 3]))),
    ("overrun values, 4 against 3", lambda: ops.Ragged(torch.zeros(3, 2), torch.tensor([0, 4]))),
    ("stop short of values, 2 against 3", lambda: ops.Ragged(torch.zeros(3, 2), torch.tensor([0, 2]))),
    ("scales must be given for int8", lambda: ops.Ragged(torch.zeros(3, 2).to(torch.int8), torch.tensor([0, 3]))),
    ("scales must be given for int8", lambda: ops.Ragged(torch.zeros(3, 2), torch.tensor([0, 3]), torch.ones(3))),
    ("items must hold at least one", lambda: ops.Ragged.from_list([])),
    ("items\\[1\\] must have shape", lambda: ops.Ragged.from_list([torch.zeros(1, 2), torch.zeros(1, 3)])),
    ("lengths must lie in 0..4", lambda: ops.Ragged.from_padded(torch.zeros(1, 4, 2), torch.tensor([5]))),
    ("ids must lie in 0..1; got -1..0", lambda: numbered([1, 2]).select([0, -1])),
    ("parts\\[1\\].values", lambda: ops.Ragged.concat([numbered([1]), numbered([1], dim=4)])),
    ("use ops.quantise", lambda: numbered([1]).to(dtype=torch.int8)),
]


@pytest.mark.parametrize(("message", "make"), BAD)
def test_bad_input_is_named(message: str, make: object) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
