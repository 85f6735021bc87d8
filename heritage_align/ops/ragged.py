"""Ragged: the rows of many items of different lengths, end to end in one tensor, never padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from . import checks


class Ragged:
    """Rows of ``n`` items packed one after the other: item ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Regions of images and fragments of texts are both held this way, because items differ in length. One may be empty.

    Args:
        values: ``(total, dim)`` float64, float32, float16, bfloat16, or int8 together with ``scales``.
        offsets: ``(n + 1,)`` integers, ascending from 0 to ``total``; kept as int64 on the device of ``values``.
        scales: ``(total,)`` float32, only with int8: row ``r`` stands for ``values[r] * scales[r]``.

    Attributes:
        values: see above.
        offsets: see above.
        scales: see above.
        device: where ``values`` are.
        dtype: the storage dtype of ``values``.

    Raises:
        ValueError: if a shape, a dtype, a device or the offsets do not fit; the message names the argument.
    """

    __slots__ = (
        "__weakref__",
        "_bins",
        "_factor_offsets",
        "_factor_size",
        "_host_offsets",
        "_max_length",
        "device",
        "dtype",
        "offsets",
        "scales",
        "values",
    )

    values: Tensor
    offsets: Tensor
    scales: Tensor | None
    device: torch.device
    dtype: torch.dtype
    _bins: tuple[Tensor, Tensor] | None  # of planner.text_bins

    def __init__(self, values: Tensor, offsets: Tensor, scales: Tensor | None = None) -> None:
        checks.tensor("values", values, shape=(None, None), dtypes=checks.STORAGE_DTYPES)
        checks.tensor("offsets", offsets, shape=(None,), dtypes=(torch.int64, torch.int32))
        if offsets.shape[0] < 1:
            raise ValueError("offsets must hold n + 1 numbers, at least the leading 0; got an empty tensor")
        if (values.dtype == torch.int8) != (scales is not None):
            raise ValueError(
                "scales must be given for int8 values and for no other dtype; "
                f"got values of {values.dtype} and scales {checks.describe(scales)}"
            )
        if scales is not None:
            checks.tensor("scales", scales, shape=(values.shape[0],), dtypes=(torch.float32,), device=values.device)
        self.values = values
        self.device, self.dtype = values.device, values.dtype  # every op asks for them several times
        self.scales = None if scales is None else scales.contiguous()  # the kernels read them one after the other
        self._host_offsets: Tensor | None = None
        self._max_length: int | None = None
        self._factor_size: int | None = None
        self._factor_offsets: Tensor | None = None
        self._bins = None
        if checks.can_read_data(values, offsets):
            host = offsets.to(device="cpu", dtype=torch.int64)
            _check_offsets(host, values.shape[0])
            self._measure(host)
        self.offsets = offsets.to(device=values.device, dtype=torch.int64).contiguous()

    @classmethod
    def from_list(cls, items: Sequence[Tensor]) -> Ragged:
        """Pack tensors of shape ``(length_i, dim)``; lengths may be 0, ``dim`` and dtype must agree.

        Raises:
            ValueError: for an empty list (there is no ``dim`` to take), or items that do not fit together.
        """
        if len(items) == 0:
            raise ValueError(
                "items must hold at least one tensor: an empty list has no dim; build Ragged(values, offsets)"
            )
        for i, item in enumerate(items):
            checks.tensor(
                f"items[{i}]",
                item,
                shape=(None, items[0].shape[-1]),
                dtypes=(items[0].dtype,),
                device=items[0].device,
            )
        lengths = torch.tensor([0] + [len(item) for item in items], dtype=torch.int64)
        return cls(torch.cat(list(items)), lengths.cumsum(0))

    @classmethod
    def from_padded(cls, padded: Tensor, lengths: Tensor) -> Ragged:
        """Drop the padding of ``padded`` ``(n, longest, dim)``, keeping the first ``lengths[i]`` rows of item ``i``.

        Raises:
            ValueError: if a length is negative or greater than ``longest``.
        """
        checks.tensor("padded", padded, shape=(None, None, None))
        if not isinstance(lengths, Tensor):
            lengths = torch.as_tensor(lengths)
        checks.tensor("lengths", lengths, shape=(padded.shape[0],), dtypes=(torch.int64, torch.int32))
        lengths = lengths.to(device=padded.device, dtype=torch.int64)
        if len(lengths) and not (int(lengths.min()) >= 0 and int(lengths.max()) <= padded.shape[1]):
            raise ValueError(
                f"lengths must lie in 0..{padded.shape[1]} (the padded length); got {lengths.min()}..{lengths.max()}"
            )
        inside = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
        return cls(padded[inside], torch.nn.functional.pad(lengths.cumsum(0), (1, 0)))

    @classmethod
    def concat(cls, parts: Sequence[Ragged]) -> Ragged:
        """Join the items of several ``Ragged`` of one dim, dtype and device, in order.

        Raises:
            ValueError: for no parts, or parts that do not fit together.
        """
        if len(parts) == 0:
            raise ValueError("parts must hold at least one Ragged")
        first = parts[0]
        for i, part in enumerate(parts):
            checks.tensor(
                f"parts[{i}].values",
                part.values,
                shape=(None, first.dim),
                dtypes=(first.dtype,),
                device=first.device,
            )
        scales = [part.scales for part in parts if part.scales is not None]
        lengths = torch.cat([part.lengths for part in parts])
        return cls(
            torch.cat([part.values for part in parts]),
            torch.nn.functional.pad(lengths.cumsum(0), (1, 0)),
            torch.cat(scales) if scales else None,
        )

    @property
    def lengths(self) -> Tensor:
        """``(n,)`` int64: how many rows each item has."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def host_offsets(self) -> Tensor:
        """The offsets on the CPU, read from the device at most once, when the object was made."""
        if self._host_offsets is None:
            self._measure(self.offsets.cpu())
        assert self._host_offsets is not None
        return self._host_offsets

    @property
    def max_length(self) -> int:
        """The number of rows of the longest item, 0 when there is none."""
        if self._max_length is None:
            self._measure(self.offsets.cpu())
        assert self._max_length is not None
        return self._max_length

    @property
    def factor_size(self) -> int:
        """How many numbers the packed triangular factors hold: the sum of ``m (m + 1) / 2`` over the items."""
        if self._factor_size is None:
            self._measure(self.offsets.cpu())
        assert self._factor_size is not None
        return self._factor_size

    @property
    def factor_offsets(self) -> Tensor:
        """``(n + 1,)`` int64: where each item's packed triangular factor starts; kept, unless a graph is captured."""
        if self._factor_offsets is not None:
            return self._factor_offsets
        if not checks.can_read_data(self.offsets):
            return _triangles(self.offsets)
        with torch.inference_mode(False):  # what is kept may be saved for a gradient later
            # From the host, by a copy that is waited for: other streams may use what is kept.
            self._factor_offsets = _triangles(self.host_offsets).to(self.device)
        return self._factor_offsets

    @property
    def dim(self) -> int:
        """The length of one row."""
        return self.values.shape[1]

    @property
    def total(self) -> int:
        """The number of rows of all items together."""
        return self.values.shape[0]

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1

    def __iter__(self) -> Iterator[Tensor]:
        return (self.item(i) for i in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Tensor | Ragged:
        """An item's rows for an integer, a ``Ragged`` of the chosen items for a slice, a list or a tensor of ids."""
        if isinstance(index, int):
            return self.item(index)
        if isinstance(index, slice) and index.step in (None, 1):
            start, stop, _ = index.indices(len(self))
            return self._rows(start, max(start, stop))
        if isinstance(index, slice):
            return self.select(torch.arange(*index.indices(len(self))))
        return self.select(index)

    def item(self, i: int) -> Tensor:
        """The rows ``(length_i, dim)`` of item ``i``, a view; int8 rows come back as float32, scales applied.

        Raises:
            IndexError: if there is no item ``i``.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"item {i} of a Ragged of {len(self)} items")
        i %= len(self)
        start, stop = int(self.host_offsets[i]), int(self.host_offsets[i + 1])
        rows = self.values[start:stop]
        return rows if self.scales is None else rows.float() * self.scales[start:stop, None]

    def select(self, ids: Sequence[int] | Tensor) -> Ragged:
        """A new ``Ragged`` of the items ``ids``, in that order, repeats allowed.

        Raises:
            ValueError: if ``ids`` is not one-dimensional or an id is out of range.
        """
        rows, offsets = self._rows_and_offsets(ids)
        return Ragged(self.values[rows], offsets, None if self.scales is None else self.scales[rows])

    def rows_of(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Which rows the items ``ids`` have, ``(n_rows,)`` int64 on the device: for what lies beside the values.

        Raises:
            ValueError: as :meth:`select`.
        """
        return self._rows_and_offsets(ids)[0]

    def _rows_and_offsets(self, ids: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(ids, dtype=torch.int64).to("cpu")
        if chosen.dim() != 1:
            raise ValueError(f"ids must be one-dimensional; got {checks.describe(chosen)}")
        if len(chosen) and not (int(chosen.min()) >= 0 and int(chosen.max()) < len(self)):
            raise ValueError(f"ids must lie in 0..{len(self) - 1}; got {int(chosen.min())}..{int(chosen.max())}")
        starts = self.host_offsets[:-1][chosen]
        lengths = (self.host_offsets[1:] - self.host_offsets[:-1])[chosen]
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        shift = torch.repeat_interleave(starts - offsets[:-1], lengths)
        return (torch.arange(int(offsets[-1])) + shift).to(self.device), offsets

    def to(
        self,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> Ragged:
        """The same items on another device, in another floating dtype, or both.

        Args:
            device: where to.
            dtype: a floating dtype.
            non_blocking: copy from pinned values while the host goes on; they must stay as they are until the stream
                has copied them.

        Raises:
            ValueError: if ``dtype`` is int8 (use :func:`heritage_align.ops.quantise`, which finds the scales).
        """
        if dtype == torch.int8 and self.dtype != torch.int8:
            raise ValueError("dtype must be a floating dtype; for int8 storage use ops.quantise(ragged)")
        values, scales = self.values, self.scales
        if device is not None:
            values = values.to(device, non_blocking=non_blocking)
            scales = None if scales is None else scales.to(device, non_blocking=non_blocking)
        if dtype is not None and dtype != values.dtype:
            if scales is not None:
                values, scales = values.float() * scales[:, None], None
            values = values.to(dtype)
        return self._like(values, scales, non_blocking)

    def dequantised(self) -> Tensor:
        """The values as floating numbers ``(total, dim)``: int8 rows become float32 with their scales applied."""
        return self.values if self.scales is None else self.values.float() * self.scales[:, None]

    def _measure(self, host: Tensor) -> None:
        lengths = host[1:] - host[:-1]
        self._host_offsets = host
        self._max_length = int(lengths.max()) if len(lengths) else 0
        self._factor_size = int((lengths * (lengths + 1) // 2).sum())

    def _rows(self, start: int, stop: int) -> Ragged:
        """Neighbouring items, as views under offsets that need no second check; the device is not waited for."""
        host = self.host_offsets[start : stop + 1]
        first, last = int(host[0]), int(host[-1])
        other = object.__new__(Ragged)
        other.values, other.scales = self.values[first:last], None if self.scales is None else self.scales[first:last]
        other.device, other.dtype = self.device, self.dtype
        other.offsets = self.offsets[start : stop + 1] - first
        other._factor_offsets = other._bins = None
        if stop - start == 1:  # what answers of single images ask for; 5 microseconds instead of 25
            other._host_offsets, other._max_length = host - first, last - first
            other._factor_size = (last - first) * (last - first + 1) // 2
        else:
            other._measure(host - first)
        return other

    def _like(self, values: Tensor, scales: Tensor | None, non_blocking: bool = False) -> Ragged:
        """Other values under the same, already checked, offsets: nothing is read from the device."""
        other = object.__new__(Ragged)
        other.values, other.scales = values, scales
        other.device, other.dtype = values.device, values.dtype
        pinned = non_blocking and self.offsets.is_cpu and other.device.type == "cuda"
        offsets = self.offsets.pin_memory() if pinned else self.offsets
        other.offsets = offsets.to(values.device, non_blocking=pinned)
        other._host_offsets, other._max_length = self._host_offsets, self._max_length
        other._factor_size = self._factor_size
        same_device = other.offsets.device == self.offsets.device
        other._factor_offsets = self._factor_offsets if same_device else None
        if pinned and self._factor_offsets is not None:
            other._factor_offsets = self._factor_offsets.pin_memory().to(other.device, non_blocking=True)
        other._bins = self._bins if same_device else None
        return other

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"Ragged({len(self)} items, {self.total} rows, dim {self.dim}, {kind}, {self.device})"


def _triangles(offsets: Tensor) -> Tensor:
    lengths = offsets[1:] - offsets[:-1]
    return torch.nn.functional.pad((lengths * (lengths + 1) // 2).cumsum(0), (1, 0))


def _check_offsets(offsets: Tensor, total: int) -> None:
    if int(offsets[0]) != 0:
        raise ValueError(f"offsets must start at 0; got {int(offsets[0])}")
    steps = offsets[1:] - offsets[:-1]
    if len(steps) and int(steps.min()) < 0:
        at = int((steps < 0).nonzero()[0])
        raise ValueError(f"offsets must ascend; offsets[{at}] = {offsets[at]} is followed by {offsets[at + 1]}")
    if int(offsets[-1]) != total:
        verb = "overrun" if int(offsets[-1]) > total else "stop short of"
        raise ValueError(
            f"offsets must end at the number of rows: they {verb} values, {offsets[-1]} against {total} rows"
        )
