"""Shards mapped into memory: what is read can be let go, no file stays open, a damaged file is named."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from heritage_align.errors import StoreError
from heritage_align.ops import Ragged
from heritage_align.store.mapping import MappedTensors
from heritage_align.store.pages import PageBudget
from heritage_align.store.reader import Blocks
from heritage_align.store.shard import Shard, read_shard, write_shard
from heritage_align.types import ImageFeatures

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def shard_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shard") / "shard-00000.safetensors"
    features = ImageFeatures(("a", "图 b", "c"), torch.nn.functional.normalize(torch.randn(3, 5), dim=1))
    features.regions = Ragged(torch.nn.functional.normalize(torch.randn(4, 5), dim=1), torch.tensor([0, 3, 3, 4]))
    features.keep = torch.tensor([True, False, True, True])
    features.boxes = torch.rand(4, 4)
    write_shard(path, features, [("x", "is not a picture")], "bf16")
    return path


def test_tensors_are_those_that_safetensors_reads(shard_file: Path) -> None:
    mapped, expected = MappedTensors(shard_file), load_file(shard_file)
    assert set(mapped) == set(expected) == {"global", "regions.values", "regions.offsets", "keep", "boxes"}
    for name, tensor in expected.items():
        assert mapped[name].dtype == tensor.dtype
        assert torch.equal(mapped[name], tensor)


def test_views_stay_good_after_release(shard_file: Path) -> None:
    shard = read_shard(shard_file)
    view = shard.vectors("global")
    before = view.clone()
    shard.tensors.release()
    assert torch.equal(view, before)


def large_shards(folder: Path, count: int) -> list[Shard]:
    """Return shards of 2 MiB."""
    shards = []
    for number in range(count):
        path = folder / f"{number}.safetensors"
        vectors = torch.full((4096, 256), float(number))
        write_shard(path, ImageFeatures(tuple(f"{number}-{i}" for i in range(4096)), vectors), [], "fp16")
        shards.append(read_shard(path))
    return shards


def resident_file_pages() -> int:
    """Return the bytes of mapped files that are resident in this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


@linux
def test_a_pass_over_all_blocks_keeps_few_resident(tmp_path: Path) -> None:
    blocks = Blocks(large_shards(tmp_path, 24), "global", PageBudget(8 * 2**20))
    before, most = resident_file_pages(), 0
    for number, block in enumerate(blocks):
        assert float(block.min()) == float(block.max()) == number
        most = max(most, resident_file_pages() - before)
    # 24 blocks are 48 MiB; the budget of four, the one in use, and the headers of their files are some 11 MiB.
    assert most < 16 * 2**20


@linux
def test_no_file_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    shards = large_shards(tmp_path, 3)
    assert [len(shard) for shard in shards] == [4096] * 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_blocks_are_a_sequence(tmp_path: Path) -> None:
    blocks = Blocks(large_shards(tmp_path, 3), "global", PageBudget(2**30))
    assert len(blocks) == 3
    assert [int(block[0, 0]) for block in blocks] == [0, 1, 2]
    assert [int(block[0, 0]) for block in blocks[1:]] == [1, 2]
    assert int(blocks[-1][0, 0]) == 2


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_header_is_refused_by_name_or_harmless(
    shard_file: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(shard_file.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    place = data.draw(st.integers(0, header - 1))
    content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "shard-00000.safetensors"
    path.write_bytes(bytes(content))
    try:
        shard = read_shard(path)
    except StoreError as error:
        named = str(path) in str(error)
    else:
        named = all(shard.tensors[name].clone() is not None for name in shard.tensors)  # views lie inside of the file
    assert named


@pytest.mark.parametrize("length", [0, 5, 8, 100, -1])
def test_a_cut_file_is_refused_by_name(shard_file: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(shard_file.read_bytes()[:length])
    with pytest.raises(StoreError, match=r"cut\.safetensors: is not a whole shard"):
        read_shard(path)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(2, 2)}, path)
    with pytest.raises(StoreError, match=r"weights\.safetensors: is not a whole shard: .* in its metadata"):
        read_shard(path)


def test_a_tensor_that_overlaps_the_header_is_refused(shard_file: Path, tmp_path: Path) -> None:
    content = shard_file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    start, stop = header["keep"]["data_offsets"]
    header["keep"]["data_offsets"] = [start - stop - 8, -8]
    changed = json.dumps(header).encode()
    changed += b" " * (-len(changed) % 8)
    path = tmp_path / "overlap.safetensors"
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    with pytest.raises(StoreError, match="the place of tensor 'keep' does not fit"):
        read_shard(path)


def test_offsets_that_were_overwritten_are_named(shard_file: Path, tmp_path: Path) -> None:
    tensors = dict(load_file(shard_file))
    tensors["regions.offsets"] = torch.tensor([0, 5, 3, 4])
    path = tmp_path / "offsets.safetensors"
    save_file(tensors, path, MappedTensors(shard_file).metadata)
    with pytest.raises(StoreError, match=r"offsets\.safetensors: offsets must ascend"):
        read_shard(path).regions()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("global", torch.tensor(1.0), r"'global' has shape \(\), expected 2 dimensions"),
        ("regions.offsets", torch.zeros(1, 4, dtype=torch.int64), "'regions.offsets' has shape"),
        ("regions.offsets", torch.tensor([0.0, 1, 2, 4]), "'regions.offsets' are torch.float32, expected int64"),
        ("keep", torch.tensor(True), "'keep' has shape"),
        ("contents", torch.tensor(3), "'contents' has shape"),
    ],
)
def test_tensors_of_another_form_are_named(
    shard_file: Path, tmp_path: Path, name: str, tensor: torch.Tensor, message: str
) -> None:
    path = tmp_path / "form.safetensors"
    save_file({**load_file(shard_file), name: tensor}, path, MappedTensors(shard_file).metadata)
    with pytest.raises(StoreError, match=rf"form\.safetensors: {message}"):
        read_shard(path)


@pytest.mark.parametrize(
    ("key", "value"), [("ids", [[1], "b", "c"]), ("folded", None), ("skipped", [[["a"], "b"]]), ("skipped", [["a", 3]])]
)
def test_metadata_of_other_types_are_named(shard_file: Path, tmp_path: Path, key: str, value: object) -> None:
    metadata = json.loads(MappedTensors(shard_file).metadata["heritage_align"])
    path = tmp_path / "types.safetensors"
    save_file(load_file(shard_file), path, {"heritage_align": json.dumps({**metadata, key: value})})
    with pytest.raises(StoreError, match=r"types\.safetensors: is not a whole shard: TypeError.* in its metadata"):
        read_shard(path)


@pytest.mark.parametrize(
    "header", ['{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}', '{"a": ' * 5000]
)
def test_a_header_without_end_is_named(tmp_path: Path, header: str) -> None:
    path = tmp_path / "shard.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"1234")
    with pytest.raises(StoreError, match=r"shard\.safetensors: is not a whole shard"):
        read_shard(path)


def test_sides_below_zero_are_named(tmp_path: Path) -> None:
    header = b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}'
    path = tmp_path / "shard.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    with pytest.raises(StoreError, match="the place of tensor 'a' does not fit its shape"):
        read_shard(path)
