"""Building a store: resuming after any kill, shares, merging, refusing what does not belong."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from heritage_align.encoding import ImageSource
from heritage_align.errors import ImageError, StoreError
from heritage_align.identity import digest_of, same_but_for_new_settings
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.store import Store, verify
from heritage_align.store.finish import merge
from heritage_align.store.layout import read_build, read_manifest, refuse_identity


def sources_of(pipeline: Pipeline) -> list[ImageSource]:
    return list(dataset_sources(pipeline.dataset()))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_bad_picture_is_named_and_the_rest_is_there(scan: Pipeline, tmp_path: Path) -> None:
    seen: list[int] = []
    report = build_index(scan, sources_of(scan), tmp_path / "store", progress=seen.append)
    assert report.finished
    assert report.images == 10
    assert [image_id for image_id, _ in report.skipped] == ["p3x.png"]
    assert sum(seen) == 11
    store = Store.open(tmp_path / "store", expect=scan.identity())
    assert store.ids == tuple(f"p{n}.png" for n in range(10))
    assert store.skipped == report.skipped
    assert list(verify(tmp_path / "store")) == []


def test_features_come_back_as_they_were(scan: Pipeline, tmp_path: Path) -> None:
    build_index(scan, sources_of(scan), tmp_path / "store")
    store = Store.open(tmp_path / "store")
    rows = torch.tensor([1, 5, 9])
    gathered = store.gather(rows)
    dataset = scan.dataset()
    ids = [store.ids[row] for row in rows.tolist()]
    fresh = scan.encode_images([dataset.load_image(i) for i in ids], ids)
    assert gathered.ids == fresh.ids
    assert gathered.regions is not None
    assert fresh.regions is not None
    assert torch.equal(gathered.regions.offsets, fresh.regions.offsets)
    # Stored as fp16: half a unit in the last place of values below 1 is 2.5e-4.
    torch.testing.assert_close(gathered.regions.values.float(), fresh.regions.values, atol=3e-4, rtol=0)
    torch.testing.assert_close(gathered.global_features, fresh.global_features, atol=3e-4, rtol=0)
    assert torch.equal(gathered.boxes, fresh.boxes)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 0.0), ("fp16", 2**-11), ("bf16", 2**-8), ("int8", 1 / 254)])
def test_every_storage_type(laclip: Pipeline, tmp_path: Path, dtype: str, tolerance: float) -> None:
    pipeline = Pipeline.from_config(laclip.config.as_dict(), [f"store.dtype={dtype}"])
    build_index(pipeline, sources_of(pipeline), tmp_path / "store")
    exact = Pipeline.from_config(laclip.config.as_dict(), ["store.dtype=fp32"])
    build_index(exact, sources_of(exact), tmp_path / "exact")
    store = Store.open(tmp_path / "store")
    blocks, folds = store.first_stage(), store.exact_first_stage
    expected = Store.open(tmp_path / "exact").first_stage()
    assert folds
    # Half a unit in the last place of the largest value; int8 rounds to 1/127 of it.
    scale = torch.cat([*expected]).abs().max().item() * (1 + 1e-6)
    torch.testing.assert_close(torch.cat([*blocks]).float(), torch.cat([*expected]), atol=tolerance * scale, rtol=0)
    assert list(verify(tmp_path / "store")) == []


def test_shares_make_the_same_store(scan: Pipeline, tmp_path: Path) -> None:
    build_index(scan, sources_of(scan), tmp_path / "whole")
    first = build_index(scan, sources_of(scan), tmp_path / "shared", share=(2, 2))
    assert not first.finished
    with pytest.raises(StoreError, match="half built"):
        Store.open(tmp_path / "shared")
    assert build_index(scan, sources_of(scan), tmp_path / "shared", share=(1, 2)).finished
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


def test_parts_merge_into_the_same_shards(scan: Pipeline, tmp_path: Path) -> None:
    build_index(scan, sources_of(scan), tmp_path / "whole")
    for share in ((1, 2), (2, 2)):
        build_index(scan, sources_of(scan), tmp_path / f"part{share[0]}", share=share)
    merge([tmp_path / "part2", tmp_path / "part1"], tmp_path / "merged")
    whole, merged = contents(tmp_path / "whole"), contents(tmp_path / "merged")
    assert all(merged[name] == content for name, content in whole.items() if name.startswith("shard"))
    assert Store.open(tmp_path / "merged").ids == Store.open(tmp_path / "whole").ids
    with pytest.raises(StoreError, match=r"shard-00000.safetensors of 3 is in .*part1, .*part1; expected it in"):
        merge([tmp_path / "part1", tmp_path / "part1"], tmp_path / "twice")
    build_index(scan, sources_of(scan), tmp_path / "third", share=(3, 3))
    with pytest.raises(StoreError, match="shard-00001.safetensors of 3 is in none of the parts"):
        merge([tmp_path / "part1", tmp_path / "third"], tmp_path / "lacking")
    with pytest.raises(StoreError, match="not empty"):
        merge([tmp_path / "part1"], tmp_path / "merged")


def test_whole_stores_of_other_pictures_follow_each_other(scan: Pipeline, tmp_path: Path) -> None:
    sources = sources_of(scan)
    build_index(scan, sources[:4], tmp_path / "a")
    build_index(scan, sources[5:], tmp_path / "b")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    both = Store.open(tmp_path / "both")
    assert both.ids == Store.open(tmp_path / "a").ids + Store.open(tmp_path / "b").ids
    build_index(scan, sources[:6], tmp_path / "c")
    with pytest.raises(StoreError, match=r"image id 'p0.png' is in"):
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "clash")
    assert not (tmp_path / "clash").exists()
    assert (tmp_path / "both" / "config.yaml").read_text() == (tmp_path / "a" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("file", "place", "value", "message"),
    [
        ("build.json", ("identity",), "cn_clip", "identity is not of type"),
        ("build.json", ("shard_images",), 0, "shard_images is 0"),
        ("build.json", ("sources",), "11", "sources is not of type int"),
        ("manifest.json", ("build", "identity"), [], "identity is not of type"),
        ("manifest.json", ("shards", 0, "file"), 3, "file is not of type str"),
        ("manifest.json", ("shards", 0, "images"), None, "images is not of type int"),
        ("manifest.json", ("shards",), 3, "not iterable"),
        ("manifest.json", ("dim",), "wide", "invalid literal"),
        ("manifest.json", ("dim",), math.inf, "cannot convert float infinity"),
    ],
)
def test_a_damaged_document_is_named(
    scan: Pipeline, tmp_path: Path, file: str, place: tuple[str | int, ...], value: object, message: str
) -> None:
    folder = tmp_path / "store"
    build_index(scan, sources_of(scan), folder)
    document = json.loads((folder / file).read_text())
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (folder / file).write_text(json.dumps(document))
    read = read_build if file == "build.json" else read_manifest
    with pytest.raises(StoreError, match=rf"{file}: is damaged: .*{message}"):
        read(folder)


def older(identity: dict[str, str], *places: tuple[str, ...]) -> dict[str, str]:
    """Return what a version that did not know some settings wrote."""
    settings = json.loads(identity["settings"])
    for *parents, name in places:
        inner = settings
        for key in parents:
            inner = inner[key]
        del inner[name]
    known = {key: value for key, value in identity.items() if key != "defaults"}
    return {**known, "settings": json.dumps(settings), "image_config": digest_of(settings)}


@pytest.mark.parametrize(
    ("place", "override"),
    [
        (("encoder", "settings", "patch_features"), "encoder.patch_features=naclip"),
        (("proposer", "scale"), "proposer.scale=[0.3,0.5]"),
    ],
)
def test_a_setting_that_was_added_has_been_its_default_before(
    laclip: Pipeline, tmp_path: Path, place: tuple[str, ...], override: str
) -> None:
    build_index(laclip, sources_of(laclip), tmp_path / "store")
    for file in ("build.json", "manifest.json"):
        document = json.loads((tmp_path / "store" / file).read_text())
        build = document if file == "build.json" else document["build"]
        build["identity"] = older(build["identity"], place)
        (tmp_path / "store" / file).write_text(json.dumps(document))
    Store.open(tmp_path / "store", expect=laclip.identity())
    build_index(laclip, sources_of(laclip), tmp_path / "store")
    other = Pipeline.from_config(laclip.config.as_dict(), [override])
    with pytest.raises(StoreError, match=rf"was made with .*{place[-1]}(\.0)?: nothing \(the config has"):
        Store.open(tmp_path / "store", expect=other.identity())
    # What was there and is another is no addition, though the configuration has the default.
    changed = {**laclip.identity(), "settings": laclip.identity()["settings"].replace('"seed": 0', '"seed": 1')}
    with pytest.raises(StoreError, match="seed"):
        refuse_identity({**changed, "image_config": "x"}, laclip.identity(), tmp_path)


def test_another_encoder_or_other_regions_are_refused(scan: Pipeline, laclip: Pipeline, tmp_path: Path) -> None:
    build_index(laclip, sources_of(laclip), tmp_path / "store")
    other = {**laclip.identity(), "encoder": "cn_clip/other/sha256:0"}
    with pytest.raises(StoreError, match="was made by encoder .* the config has cn_clip/other/sha256:0"):
        Store.open(tmp_path / "store", expect=other)
    crops = Pipeline.from_config(laclip.config.as_dict(), ["proposer.count=4"])
    with pytest.raises(StoreError, match=r"was made with proposer\.count: 3 \(the config has 4\); use the config"):
        Store.open(tmp_path / "store", expect=crops.identity())
    with pytest.raises(StoreError, match=r"was made with proposer\.count: 3 \(the config has 4\)"):
        build_index(crops, sources_of(crops), tmp_path / "store")
    changes = ["proposer={name: patch_grid, mode: windows}", "runtime.seed=3"]
    windows = Pipeline.from_config(laclip.config.as_dict(), changes)
    named = r'proposer\.name: "random_crops" \(the config has "patch_grid"\), seed: 0 \(the config has 3\);'
    with pytest.raises(StoreError, match=named):  # and not one setting of the other proposer after another
        Store.open(tmp_path / "store", expect=windows.identity())
    silent = {key: value for key, value in crops.identity().items() if key != "settings"}
    with pytest.raises(StoreError, match="was made with other regions, region filters, folding or seed than"):
        Store.open(tmp_path / "store", expect=silent)
    texts = Pipeline.from_config(laclip.config.as_dict(), ["encoder.context_length=9"])
    Store.open(tmp_path / "store", expect=texts.identity())  # a setting of texts alone
    bfan = Pipeline.from_config(scan.config.as_dict(), ["filters=[{name: bfan_focal, mode: prob}]"])
    build_index(scan, sources_of(scan), tmp_path / "regions")
    Store.open(tmp_path / "regions", expect=bfan.identity())  # the same regions, compared in another way


def test_a_changed_collection_is_refused(scan: Pipeline, tmp_path: Path) -> None:
    build_index(scan, sources_of(scan), tmp_path / "store", share=(1, 2))
    with pytest.raises(StoreError, match="number of pictures: 11 there, 10 now"):
        build_index(scan, sources_of(scan)[1:], tmp_path / "store")
    with pytest.raises(StoreError, match="their ids or order"):
        build_index(scan, sources_of(scan)[::-1], tmp_path / "store")


def test_faults_are_found_and_named(scan: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    build_index(scan, sources_of(scan), folder)
    shard = folder / "shard-00001.safetensors"
    sound = shard.read_bytes()
    shard.write_bytes(sound[:-40])
    with pytest.raises(StoreError, match=r"shard-00001.safetensors: is not a whole shard"):
        Store.open(folder)
    assert any("the manifest says" in fault for fault in verify(folder))
    flipped = bytearray(sound)
    flipped[-3] ^= 0x40
    shard.write_bytes(bytes(flipped))
    assert any("sha256" in fault for fault in verify(folder))
    shard.unlink()
    with pytest.raises(StoreError, match=r"shard-00001.safetensors: is missing"):
        Store.open(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["build"]["format"] = 99
    manifest["build"]["compression"] = "of a later version"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="store format 99, this version reads 1"):
        Store.open(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="is not JSON"):
        Store.open(folder)
    with pytest.raises(StoreError, match="there is no store"):
        Store.open(tmp_path / "nowhere")


def test_no_picture_at_all(scan: Pipeline, tmp_path: Path) -> None:
    bad = [source for source in sources_of(scan) if source.id == "p3x.png"]
    with pytest.raises(StoreError, match="not one of 1 pictures could be read"):
        build_index(scan, bad, tmp_path / "bad")
    with pytest.raises(StoreError, match="no pictures"):
        build_index(scan, [], tmp_path / "none")
    with pytest.raises(StoreError, match="'p3x.png' occurs twice"):
        build_index(scan, [*bad, *bad], tmp_path / "twice")


def test_pictures_none_of_which_could_be_read_are_tried_again(scan: Pipeline, tmp_path: Path) -> None:
    good, store = sources_of(scan)[:2], tmp_path / "store"

    def pointer() -> Image.Image:
        raise ImageError("it is a Git LFS pointer")

    for _ in range(2):
        with pytest.raises(StoreError, match="not one of 2 pictures could be read; the first: it is a Git LFS"):
            build_index(scan, [ImageSource(source.id, pointer) for source in good], store)
    assert build_index(scan, good, store).images == 2


def test_gather_wants_ascending_rows(scan: Pipeline, tmp_path: Path) -> None:
    build_index(scan, sources_of(scan), tmp_path / "store")
    store = Store.open(tmp_path / "store")
    for rows in ([2, 1], [1, 1], [-1, 0], [0, 10]):
        with pytest.raises(ValueError, match=r"rows: expected ascending rows of 0\.\.9"):
            store.gather(torch.tensor(rows))
    assert len(store.gather(torch.tensor([], dtype=torch.int64))) == 0


def test_a_killed_build_goes_on_and_is_the_same_to_the_byte(laclip: Pipeline, tmp_path: Path) -> None:
    # SIGKILL in the middle of a real command; no clean-up code of ours can run.
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(24):
        Image.new("RGB", (64, 64), (number * 10, 90, 255 - number * 10)).save(folder / f"{number:02}.png")
    config = tmp_path / "config.yaml"
    document = laclip.config.as_dict()
    document["data"] = {"name": "folder", "folder": str(folder)}
    document["store"]["shard_images"] = 2
    document["proposer"]["count"] = 40
    config.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "heritage_align", "index", "build", str(config), "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, str(killed)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "shard-00001.safetensors").exists():
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "manifest.json").exists()
    finished_before = len(list(killed.glob("shard-*.safetensors")))
    assert finished_before >= 2
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    half = f".shard-00011.safetensors.{socket.gethostname()}-{gone.stdout.strip()}.tmp"
    (killed / half).write_bytes(b"half a shard")
    again = subprocess.run(
        [*command, str(killed), "--json"], env=environment, capture_output=True, text=True, check=True
    )
    report = json.loads(again.stdout)
    assert report["shards_found"] == finished_before
    assert report["finished"]
    subprocess.run([*command, str(tmp_path / "straight"), "--json"], env=environment, capture_output=True, check=True)
    assert contents(killed) == contents(tmp_path / "straight")


def test_a_store_is_as_readable_as_the_umask_says(scan: Pipeline, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        build_index(scan, sources_of(scan), tmp_path / "store")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "store").iterdir()}
    assert set(modes.values()) == {0o640}, modes


def test_a_running_build_keeps_the_file_it_writes(scan: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    host = socket.gethostname()
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        alive = folder / f".shard-00000.safetensors.{host}-{sleeper.pid}.tmp"
        alive.write_bytes(b"being written by the other process")
        elsewhere = folder / ".shard-00000.safetensors.another-machine-7.tmp"
        elsewhere.write_bytes(b"nobody here can know")
        build_index(scan, sources_of(scan), folder)
        assert alive.exists()
        assert elsewhere.exists()
    finally:
        sleeper.communicate(b"\n")
    shard = folder / "shard-00000.safetensors"
    shard.unlink()
    build_index(scan, sources_of(scan), folder)
    assert shard.exists()
    assert not alive.exists()


def test_building_again_does_not_bless_a_shard_that_changed(scan: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    build_index(scan, sources_of(scan), folder)
    shard = folder / "shard-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-40] ^= 1
    shard.write_bytes(content)
    assert build_index(scan, sources_of(scan), folder).finished
    assert [fault for fault in verify(folder) if "its content changed" in fault]
    shard.unlink()  # how one mends it
    build_index(scan, sources_of(scan), folder)
    assert list(verify(folder)) == []


def test_making_a_cut_shard_again_does_not_bless_another_that_changed(scan: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    build_index(scan, sources_of(scan), folder)
    whole = contents(folder)
    changed, cut = folder / "shard-00000.safetensors", folder / "shard-00001.safetensors"
    content = bytearray(changed.read_bytes())
    content[-40] ^= 1
    changed.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-1])
    report = build_index(scan, sources_of(scan), folder)
    assert (report.written, report.remade, report.finished) == (1, (cut.name,), True)
    assert cut.read_bytes() == whole[cut.name]
    (fault,) = verify(folder)
    assert fault.startswith(f"{changed}: its content changed")
    assert f"once it is removed, heritage-align index update {folder} encodes its pictures again" in fault


def test_a_share_names_the_shard_of_another_that_was_cut(scan: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    build_index(scan, sources_of(scan), folder, share=(1, 2))
    cut = folder / "shard-00000.safetensors"
    cut.write_bytes(b"")
    with pytest.raises(StoreError, match=r"shard-00000\.safetensors: is not a whole shard.*same index build again"):
        build_index(scan, sources_of(scan), folder, share=(2, 2))
    report = build_index(scan, sources_of(scan), folder, share=(1, 2))
    assert (report.remade, report.finished) == ((cut.name,), True)
    assert list(verify(folder)) == []


@pytest.mark.parametrize("name", ["build.json", "manifest.json"])
def test_a_document_that_is_nested_too_deeply_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"build": ' * 5000)
    read = read_build if name == "build.json" else read_manifest
    with pytest.raises(StoreError, match=f"{name}: is not JSON: maximum recursion"):
        read(tmp_path)


def test_settings_that_are_nested_too_deeply_are_other_settings(tmp_path: Path) -> None:
    have, want = (
        {"image_config": "a", "settings": "[" * 5000},
        {"image_config": "b", "settings": "{}", "defaults": "[]"},
    )
    assert not same_but_for_new_settings(have, want)
    with pytest.raises(StoreError, match="was made with other regions, region filters"):
        refuse_identity(have, want, tmp_path)
