"""A store that lives: what changed is encoded and nothing else, whatever kills the update; readers go on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from heritage_align.cli import cli
from heritage_align.config import load_config
from heritage_align.encoding import ImageSource
from heritage_align.errors import ImageError, StoreError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.search import Searcher
from heritage_align.store import Store, verify
from heritage_align.store.layout import read_manifest
from heritage_align.store.lock import changing
from heritage_align.types import TextItem
from heritage_align.updating import compact, update_index

Draw = Callable[[Path, str, int], None]


@pytest.fixture
def pipeline(scan: Pipeline, folder: Path) -> Pipeline:
    return Pipeline.from_config(scan.config.as_dict(), [f"data.folder={folder}"])


def sources(pipeline: Pipeline) -> list[ImageSource]:
    return list(dataset_sources(pipeline.dataset()))


class Counted:
    """Sources that count how often a picture is decoded."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.loaded: list[str] = []
        self.sources = [ImageSource(s.id, self._loader(s), s.file) for s in sources(pipeline)]

    def _loader(self, source: ImageSource) -> Callable[[], Image.Image]:
        def load() -> Image.Image:
            self.loaded.append(source.id)
            return source.load()

        return load


def features_of(store: Store) -> dict[str, tuple[torch.Tensor, ...]]:
    found = {}
    for row, image_id in enumerate(store.ids):
        one = store.gather(torch.tensor([row]))
        assert one.regions is not None
        assert one.boxes is not None
        assert one.factor is not None
        found[image_id] = (one.global_features, one.regions.values, one.boxes, one.factor)
    return found


def same(found: dict[str, tuple[torch.Tensor, ...]], expected: dict[str, tuple[torch.Tensor, ...]]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(a, b) for i in found for a, b in zip(found[i], expected[i], strict=True)
    )


def test_only_what_changed_is_encoded(pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw) -> None:
    store = tmp_path / "store"
    build_index(pipeline, sources(pipeline), store)
    (folder / "p2.png").unlink()
    draw(folder, "p5.png", 55)
    draw(folder, "new.png", 77)
    os.utime(folder / "p7.png")  # another time, the same content
    counted = Counted(pipeline)
    report = update_index(pipeline, counted.sources, store)
    assert (report.changes.added, report.changes.replaced, report.changes.removed) == (
        ("new.png",),
        ("p5.png",),
        ("p2.png",),
    )
    assert sorted(counted.loaded) == ["new.png", "p5.png"]
    assert report.images == 9
    assert list(verify(store)) == []
    build_index(pipeline, sources(pipeline), tmp_path / "fresh")
    updated, fresh = Store.open(store, expect=pipeline.identity()), Store.open(tmp_path / "fresh")
    assert same(features_of(updated), features_of(fresh))
    again = Counted(pipeline)
    assert not update_index(pipeline, again.sources, store).changes
    assert again.loaded == []


def test_compacting_changes_no_feature(pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw) -> None:
    store = tmp_path / "store"
    build_index(pipeline, sources(pipeline), store)
    for seed in (1, 2, 3):
        draw(folder, f"more{seed}.png", 100 + seed)
        draw(folder, f"p{seed}.png", 200 + seed)
        update_index(pipeline, sources(pipeline), store)
    before, ids = features_of(Store.open(store)), Store.open(store).ids
    assert len(read_manifest(store).shards) > 4
    manifest = compact(store)
    assert [entry.images for entry in manifest.shards] == [4, 4, 4]
    assert Store.open(store).ids == ids
    assert same(features_of(Store.open(store)), before)
    assert list(verify(store)) == []
    assert {path.name for path in store.glob("shard-*")} == {entry.file for entry in manifest.shards}
    names = {path.name for path in store.iterdir()}
    assert compact(store) == manifest
    assert {path.name for path in store.iterdir()} == names


def test_a_searcher_goes_on_with_what_it_opened(
    pipeline: Pipeline, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Draw
) -> None:
    monkeypatch.setattr("heritage_align.store.reader.CHECK_SECONDS", 0)
    store, query = tmp_path / "store", [TextItem("q", "缠枝莲，白鹤")]
    build_index(pipeline, sources(pipeline), store)
    searcher = Searcher.open(pipeline, store)
    before = searcher.search(query)
    draw(folder, "p0.png", 300)
    (folder / "p8.png").unlink()
    update_index(pipeline, sources(pipeline), store)
    assert searcher.search(query) == before
    assert Searcher.open(pipeline, store).search(query) != before
    draw(folder, "p1.png", 301)
    update_index(pipeline, sources(pipeline), store)  # the second one takes away what only the first manifest named
    with pytest.raises(StoreError, match=r"shard-00000\.safetensors: is gone since the store was opened"):
        searcher.search(query)


def test_bad_pictures_are_tried_again_only_when_they_changed(
    pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw
) -> None:
    store = tmp_path / "store"
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    build_index(pipeline, sources(pipeline), store)
    draw(folder, "p0.png", 400)
    counted = Counted(pipeline)
    report = update_index(pipeline, counted.sources, store)
    assert counted.loaded == ["p0.png"]
    assert [image_id for image_id, _ in report.skipped] == ["torn.png"]
    draw(folder, "torn.png", 401)
    report = update_index(pipeline, sources(pipeline), store)
    assert report.changes.added == ("torn.png",)
    assert report.skipped == ()
    assert "torn.png" in Store.open(store).ids


@pytest.mark.parametrize("step", range(6))
def test_an_update_that_dies_leaves_the_store_and_goes_on(
    pipeline: Pipeline, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, draw: Draw
) -> None:
    store = tmp_path / "store"
    build_index(pipeline, sources(pipeline), store)
    before = features_of(Store.open(store))
    (folder / "p2.png").unlink()
    for number in range(5):
        draw(folder, f"new{number}.png", 500 + number)  # two new shards, one rewritten: six writes with both documents
    real, written = os.replace, 0

    def dies(*arguments: object) -> None:
        nonlocal written
        if written == step:
            raise KeyboardInterrupt
        written += 1
        real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        patch.setattr(Path, "replace", dies)
        try:
            update_index(pipeline, sources(pipeline), store)
        except KeyboardInterrupt:
            died = True
        else:
            died = False
    assert died == (step < 5)
    assert list(verify(store)) == []
    if step < 4:  # the manifest is the fourth
        assert same(features_of(Store.open(store)), before)
    counted = Counted(pipeline)
    update_index(pipeline, counted.sources, store)
    assert len(counted.loaded) == (5 if step < 2 else 1 if step < 3 else 0)
    build_index(pipeline, sources(pipeline), tmp_path / "fresh")
    assert same(features_of(Store.open(store)), features_of(Store.open(tmp_path / "fresh")))
    assert build_index(pipeline, sources(pipeline), store).written == 0


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_series_of_changes_is_a_fresh_build(
    scan: Pipeline, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, draw: Draw
) -> None:
    root = tmp_path_factory.mktemp("series")
    folder = root / "collection"
    folder.mkdir()
    draw(folder, "a.png", 0)  # which stays: where nothing does, the collection is taken for another
    names = [f"p{n}.png" for n in range(7)]
    for name in names[:4]:
        draw(folder, name, data.draw(st.integers(0, 3)))
    pipeline = Pipeline.from_config(scan.config.as_dict(), [f"data.folder={folder}", "store.shard_images=2"])
    build_index(pipeline, sources(pipeline), root / "store")
    for _ in range(data.draw(st.integers(1, 3))):
        for name in data.draw(st.lists(st.sampled_from(names), max_size=4, unique=True)):
            if (folder / name).exists() and data.draw(st.booleans()):
                (folder / name).unlink()
            else:
                draw(folder, name, data.draw(st.integers(0, 3)))
        update_index(pipeline, sources(pipeline), root / "store")
        if data.draw(st.booleans()):
            compact(root / "store")
    build_index(pipeline, sources(pipeline), root / "fresh")
    assert same(features_of(Store.open(root / "store")), features_of(Store.open(root / "fresh")))
    assert list(verify(root / "store")) == []
    shutil.rmtree(root)


def test_what_cannot_be_updated_is_named(pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw) -> None:
    store = tmp_path / "store"
    with pytest.raises(StoreError, match="there is no store"):
        update_index(pipeline, sources(pipeline), store)
    build_index(pipeline, sources(pipeline), store)
    other = Pipeline.from_config(pipeline.config.as_dict(), ["proposer.count=2"])
    with pytest.raises(StoreError, match=r"was made with proposer\.count: 3 \(the config has 2\)"):
        update_index(other, sources(other), store)
    twice = [*sources(pipeline), sources(pipeline)[0]]
    with pytest.raises(StoreError, match=r"image id 'p0\.png' occurs twice in the collection"):
        update_index(pipeline, twice, store)
    for path in folder.iterdir():
        path.unlink()
    refusal = "none of its 9 images is in the collection; is this its collection?"
    with pytest.raises(StoreError, match=refusal):
        update_index(pipeline, [], store)
    draw(folder, "other.png", 0)  # another folder, given by mistake, would replace everything
    with pytest.raises(StoreError, match=refusal):
        update_index(pipeline, sources(pipeline), store)
    (folder / "other.png").unlink()
    draw(folder, "p0.png", 0)
    draw(folder, "p1.png", 1)
    with pytest.raises(StoreError, match=r"another number of pictures: 9 there, 2 now; heritage-align index update"):
        build_index(pipeline, sources(pipeline), store)


def test_a_store_without_contents_says_what_it_cannot_tell(
    pipeline: Pipeline, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Draw
) -> None:
    store = tmp_path / "store"
    with monkeypatch.context() as older:
        older.setattr("heritage_align.shards.contents_of", lambda found, _: [None] * len(found))
        build_index(pipeline, sources(pipeline), store)
    draw(folder, "p5.png", 55)
    (folder / "p6.png").unlink()
    draw(folder, "new.png", 56)
    report = update_index(pipeline, sources(pipeline), store)
    assert (report.changes.added, report.changes.replaced, report.changes.removed) == (("new.png",), (), ("p6.png",))
    assert len(report.changes.unknown) == 8


def test_one_process_at_a_time_changes_a_store(pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw) -> None:
    store = tmp_path / "store"
    build_index(pipeline, sources(pipeline), store)
    draw(folder, "new.png", 1)
    with changing(store):
        for change in (lambda: update_index(pipeline, sources(pipeline), store), lambda: compact(store)):
            with pytest.raises(StoreError, match="another process is updating or compacting it"):
                change()
    assert update_index(pipeline, sources(pipeline), store).images == 10


def test_a_picture_that_changes_while_it_is_encoded_is_encoded_again(
    pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw
) -> None:
    store = tmp_path / "store"
    changed = [
        ImageSource(source.id, lambda source=source: redrawn(folder, source, draw), source.file)  # type: ignore[misc]
        for source in sources(pipeline)
    ]
    build_index(pipeline, changed, store)
    assert update_index(pipeline, sources(pipeline), store).changes.replaced == ("p1.png",)
    build_index(pipeline, sources(pipeline), tmp_path / "fresh")
    assert same(features_of(Store.open(store)), features_of(Store.open(tmp_path / "fresh")))


def redrawn(folder: Path, source: ImageSource, draw: Draw) -> Image.Image:
    """Decode a picture; p1.png is replaced right after."""
    image = source.load()
    if source.id == "p1.png":
        draw(folder, "p1.png", 99)
    return image


def test_factors_that_some_shards_lack_are_left_out(
    pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw
) -> None:
    store, rows = tmp_path / "store", torch.arange(9)
    build_index(pipeline, sources(pipeline), store)
    draw(folder, "p0.png", 5)
    late = Pipeline.from_config(pipeline.config.as_dict(), ["similarity={name: late_interaction}"])
    update_index(late, sources(late), store)
    assert not Store.open(store).has_factors
    before = Store.open(store).gather(rows)
    compact(store)
    after = Store.open(store).gather(rows)
    assert before.regions is not None
    assert after.regions is not None
    assert torch.equal(before.regions.values, after.regions.values)
    assert after.factor is None


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(bytes(content))


def test_damaged_rows_are_not_copied_under_a_fresh_checksum(pipeline: Pipeline, folder: Path, tmp_path: Path) -> None:
    store, damaged = tmp_path / "store", "its content changed since it was written"
    build_index(pipeline, sources(pipeline), store)
    path = store / "shard-00000.safetensors"
    damage(path)
    (folder / "p1.png").unlink()
    with pytest.raises(StoreError, match=rf"shard-00000\.safetensors: {damaged}"):
        update_index(pipeline, sources(pipeline), store)
    path.unlink()  # what the message says
    report = update_index(pipeline, sources(pipeline), store)
    assert set(report.changes.added) == {"p0.png", "p2.png", "p3.png"}
    build_index(pipeline, sources(pipeline), tmp_path / "fresh")
    assert same(features_of(Store.open(store)), features_of(Store.open(tmp_path / "fresh")))
    damage(store / read_manifest(store).shards[0].file)
    with pytest.raises(StoreError, match=damaged):
        compact(store)


def test_a_reordered_store_that_lost_a_shard_is_not_finished_by_a_build(pipeline: Pipeline, tmp_path: Path) -> None:
    store, reversed_sources = tmp_path / "store", sources(pipeline)[::-1]
    build_index(pipeline, sources(pipeline), store)
    update_index(pipeline, reversed_sources, store)
    (store / "shard-00001.safetensors").unlink()
    with pytest.raises(StoreError, match=r"image id 'p\d\.png' is in .*shard-0000\d.* and in .*shard-0000\d"):
        build_index(pipeline, reversed_sources, store)


@pytest.mark.parametrize("left", [-1, 0])
def test_a_store_whose_every_shard_was_cut_is_encoded_again(pipeline: Pipeline, tmp_path: Path, left: int) -> None:
    store = tmp_path / "store"
    build_index(pipeline, sources(pipeline), store)
    build_index(pipeline, sources(pipeline), tmp_path / "fresh")
    for _ in range(2):  # the second time they are files that an update has made
        files = [store / entry.file for entry in read_manifest(store).shards]
        for file in files:
            file.write_bytes(file.read_bytes()[:left])
        report = update_index(pipeline, sources(pipeline), store)
        assert report.written == len(files)
        assert list(verify(store)) == []
        assert same(features_of(Store.open(store)), features_of(Store.open(tmp_path / "fresh")))


def test_pictures_that_could_not_be_read(pipeline: Pipeline, folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def hiccup() -> Image.Image:
        raise ImageError("p4.png: the network drive is away")

    flaky = [ImageSource(s.id, hiccup, s.file) if s.id == "p4.png" else s for s in sources(pipeline)]
    build_index(pipeline, flaky, store)
    (store / "build.json").unlink()  # which nothing but a build reads
    assert not update_index(pipeline, sources(pipeline), store).changes
    report = update_index(pipeline, sources(pipeline), store, retry=True)
    assert (report.changes.added, report.skipped, report.images) == (("p4.png",), (), 9)
    (folder / "torn.png").write_bytes(b"torn")
    assert [i for i, _ in update_index(pipeline, sources(pipeline), store).skipped] == ["torn.png"]
    (folder / "torn.png").unlink()
    assert update_index(pipeline, sources(pipeline), store).skipped == ()


@pytest.mark.parametrize("instead", ["nothing", "a folder", "a named pipe", "a link to itself"])
def test_a_picture_that_the_table_still_names_is_dropped_with_its_file(
    pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw, instead: str
) -> None:
    table = {"name": "table", "file": str(tmp_path / "t.csv"), "images": str(folder.parent)}
    (tmp_path / "t.csv").write_text("image,text\n" + "".join(f"{folder.name}/p{n}.png,vase\n" for n in range(6)))
    listed = Pipeline.from_config({**pipeline.config.as_dict(), "data": table})
    store = tmp_path / "store"
    build_index(listed, sources(listed), store)
    lost, file = f"{folder.name}/p3.png", folder / "p3.png"
    file.unlink()
    if instead == "a folder":
        file.mkdir()
    elif instead == "a named pipe":
        os.mkfifo(file)
    elif instead == "a link to itself":
        file.symlink_to(file.name)
    report = update_index(listed, sources(listed), store)
    assert (report.changes.removed, report.changes.unknown, report.images) == ((lost,), (), 5)
    assert [image_id for image_id, _ in report.skipped] == [lost]
    assert lost not in Store.open(store).ids
    build_index(listed, sources(listed), tmp_path / "fresh")
    assert same(features_of(Store.open(store)), features_of(Store.open(tmp_path / "fresh")))
    assert not update_index(listed, sources(listed), store).changes
    if instead == "nothing":
        draw(folder, "p3.png", 77)
        assert update_index(listed, sources(listed), store).changes.added == (lost,)


def test_a_shard_that_cannot_be_read_is_named_and_not_encoded_again(pipeline: Pipeline, tmp_path: Path) -> None:
    store = tmp_path / "store"
    build_index(pipeline, sources(pipeline), store)
    shard = store / read_manifest(store).shards[1].file
    os.rename(shard, tmp_path / "aside")
    shard.mkdir()  # what the system refuses to read, whoever asks
    counted = Counted(pipeline)
    for refused in (
        lambda: update_index(pipeline, counted.sources, store),
        lambda: build_index(pipeline, counted.sources, store),
        lambda: Store.open(store),
    ):
        with pytest.raises(StoreError, match=rf"{shard.name}: cannot be read: Is a directory$"):
            refused()
    assert counted.loaded == []
    shard.rmdir()
    os.rename(tmp_path / "aside", shard)
    assert list(verify(store)) == []


def test_the_command_line(pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw) -> None:
    def run(*arguments: object) -> str:
        result = CliRunner().invoke(cli, ["index", *map(str, arguments)])
        assert result.exit_code in (0, 2), result.output
        return result.output

    store = tmp_path / "store"
    build_index(pipeline, sources(pipeline), store)
    assert run("verify", store, "--data", folder) == f"{store}: sound\n"
    draw(folder, "p5.png", 55)
    draw(folder, "new.png", 56)
    (folder / "p6.png").unlink()
    changed = run("verify", store, "--data", folder)
    assert "0 faults, 3 changes of the collection (index update takes them in)" in changed
    assert "replaced since: p5.png" in changed
    found = json.loads(run("verify", store, "--data", folder, "--json").partition("error:")[0])
    assert (found["added"], found["replaced"], found["removed"]) == (["new.png"], ["p5.png"], ["p6.png"])
    assert run("update", store, "--data", folder).endswith(
        f"{store}: 9 images; 1 added, 1 replaced, 1 removed; shards: 2 written\n"
    )
    nothing = json.loads(run("update", store, "--data", folder, "--json"))
    assert (nothing["images"], nothing["shards_written"], nothing["added"]) == (9, 0, [])
    assert run("compact", store) == f"{store}: 9 images in 3 shards\n"
    assert run("verify", store, "--data", folder) == f"{store}: sound\n"
    assert "there is no store" in run("update", tmp_path / "nowhere", "--data", folder)
    fixed = run("update", store, "--data", folder, "--set", "store.dtype=int8")
    assert "a store keeps the storage and the size of shards it was built with" in fixed
    (store / "config.yaml").unlink()
    assert "config.yaml: is missing; put back the configuration" in run("update", store, "--data", folder)


def test_a_store_knows_its_collection_from_any_folder(
    pipeline: Pipeline, folder: Path, tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "scan.yaml"
    config.write_text(pipeline.config.to_yaml())
    monkeypatch.chdir(folder.parent)

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(cli, ["index", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.output

    for number, data in enumerate((folder.name, f"{folder.name}/captions.csv")):
        monkeypatch.chdir(folder.parent)
        if number:
            Path(data).write_text("image,text\n" + "".join(f"p{n}.png,a\n" for n in range(4)))
        store = tmp_path / f"store-{number}"
        run("build", config, "--data", data, "--out", store)
        monkeypatch.chdir("/")
        assert load_config(store / "config.yaml").data.settings.facts().files.popitem()[1] == folder.parent / data
        draw(folder, "p1.png", 70 + number)
        assert "1 replaced" in run("update", store)
