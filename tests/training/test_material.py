"""Features of training data: made once, by all processes together, whatever is killed or cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from heritage_align.config import load_config
from heritage_align.errors import DataError, ImageError
from heritage_align.front_end import FrontEnd
from heritage_align.pipeline import Pipeline
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext
from heritage_align.training import distributed
from heritage_align.training.material import FEWEST, features_of, fragments_of, material_of, unreadable
from heritage_align.types import GoldenPair, TextItem


class Greys:
    """Pictures of one grey each, that count how often they are loaded."""

    def __init__(self, count: int = 40, bad: tuple[str, ...] = (), stop_at: int | None = None) -> None:
        self.name = "greys"
        self.image_ids = tuple(f"g{number:02d}" for number in range(count))
        self.texts = tuple(TextItem(f"t-{i}", f"灰 {i}，方", (i,)) for i in self.image_ids)
        self.golden: tuple[GoldenPair, ...] = ()
        self.bad, self.stop_at = bad, stop_at
        self.loads: Counter[str] = Counter()

    def load_image(self, image_id: str) -> Image.Image:
        if self.stop_at is not None and sum(self.loads.values()) >= self.stop_at:
            raise KeyboardInterrupt
        self.loads[image_id] += 1
        if image_id in self.bad:
            raise ImageError(f"{image_id}.png: is truncated")
        level = 5 * int(image_id[1:])
        return Image.new("RGB", (40, 32), (level, level, 255 - level))


Build = Callable[..., FrontEnd]


@pytest.fixture
def front(scan: Pipeline) -> Build:
    """The front end of a pipeline with crops and phrases."""

    def build(*overrides: str) -> FrontEnd:
        config = load_config(scan.config.as_dict(), overrides)
        return FrontEnd(config, BuildContext(seed=config.runtime.seed), default_registry(), as_given=True)

    return build


def test_features_are_those_of_the_pipeline(front: Build, scan: Pipeline, tmp_path: Path) -> None:
    data = Greys(5)
    images = features_of(front(), data, tmp_path)
    expected = scan.encode_images([Greys(5).load_image(i) for i in data.image_ids], data.image_ids)
    assert images.ids == expected.ids
    assert images.regions is not None
    assert expected.regions is not None
    torch.testing.assert_close(images.global_features, expected.global_features)
    torch.testing.assert_close(images.regions.values, expected.regions.values)
    assert torch.equal(images.regions.offsets, expected.regions.offsets)
    images.regions.values.requires_grad_()  # no tensor of inference mode


def test_a_run_killed_while_encoding_goes_on(front: Build, tmp_path: Path) -> None:
    killed = Greys(stop_at=FEWEST + 3)  # in the second shard
    slow = front("runtime.batch_size=2", "runtime.workers=1")
    with pytest.raises(KeyboardInterrupt):
        features_of(slow, killed, tmp_path / "killed")
    resumed = Greys()
    images = features_of(slow, resumed, tmp_path / "killed")
    done = killed.image_ids[:FEWEST]
    assert [killed.loads[i] for i in done] == [1] * FEWEST
    assert all(resumed.loads[i] == (i not in done) for i in resumed.image_ids)
    whole = features_of(slow, Greys(), tmp_path / "whole")
    assert torch.equal(images.global_features, whole.global_features)
    again = Greys()
    assert features_of(front(), again, tmp_path / "killed").ids == again.image_ids
    assert not again.loads


def test_each_process_encodes_its_share(front: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The second process's share is made while the first waits for it, where torchrun's would.
    first, second = Greys(), Greys()
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    shares: list[tuple[int, int]] = []

    def as_rank(number: int) -> None:
        monkeypatch.setattr(distributed, "rank", lambda: number)

    def other() -> None:
        as_rank(1)
        monkeypatch.setattr(distributed, "barrier", lambda: None)
        features_of(front(), second, tmp_path)
        as_rank(0)
        shares.append((len(first.loads), len(second.loads)))

    as_rank(0)
    monkeypatch.setattr(distributed, "barrier", other)
    images = features_of(front(), first, tmp_path)
    assert shares == [(24, 16)]  # shards of 16, 16 and 8 pictures
    assert not first.loads.keys() & second.loads.keys()
    assert images.ids == first.image_ids


def test_what_cannot_be_read_is_left_out_named_and_counted(
    front: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Greys(4, bad=("g01",))
    for _ in range(2):  # found again, not looked at again
        material = material_of(front(), data, tmp_path, quiet=True)
        assert material.images.ids == ("g00", "g02", "g03")
        assert [item.id for item in material.items] == ["t-g00", "t-g02", "t-g03"]
        assert material.rows.tolist() == [0, 1, 2]
        assert capsys.readouterr() == (
            "",
            "left out g01: g01.png: is truncated\ngreys: 1 of 4 pictures cannot be read and are left out\n",
        )
    assert data.loads["g01"] == 1
    with pytest.raises(DataError, match=r"^greys: .*not one of 2 pictures could be read; the first: g00"):
        material_of(front(), Greys(2, bad=("g00", "g01")), tmp_path / "none")


def test_features_of_other_data_or_settings_are_not_taken(front: Build, tmp_path: Path) -> None:
    features_of(front(), Greys(4), tmp_path)
    with pytest.raises(DataError, match=r"greys: .*number of pictures"):
        features_of(front(), Greys(5), tmp_path)
    with pytest.raises(DataError, match=r"greys: .*seed"):
        features_of(front("runtime.seed=7"), Greys(4), tmp_path)


def test_a_digest_is_of_texts_fragments_and_numbers(front: Build, tmp_path: Path) -> None:
    material, other = (material_of(front(), Greys(count), tmp_path / str(count)) for count in (3, 4))
    assert material.digest(True) != material.digest(False) != other.digest(False)
    assert material.digest(True) == material_of(front(), Greys(3), tmp_path / "again").digest(True)
    material.images.global_features[0, 0] += 1
    assert material.digest(True) != material_of(front(), Greys(3), tmp_path / "again").digest(True)


def test_pictures_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heritage_align.training.material.LOOKED_AT", 3)
    killed = Greys(8, bad=("g01", "g07"), stop_at=5)
    with pytest.raises(KeyboardInterrupt):
        unreadable(killed, killed.image_ids, tmp_path, workers=1)
    data = Greys(8, bad=("g01", "g07"))
    for _ in range(2):
        assert unreadable(data, data.image_ids, tmp_path, workers=2) == {"g01", "g07"}
    assert [data.loads[i] for i in data.image_ids] == [0, 0, 0, 1, 1, 1, 1, 1]
    (tmp_path / "unreadable-00000.json").write_text("{")  # damaged: looked at again
    unreadable(data, data.image_ids, tmp_path, workers=2)
    assert [data.loads[i] for i in data.image_ids] == [1] * 8
    others = data.image_ids[1:]
    assert unreadable(data, others, tmp_path, workers=2) == {"g01", "g07"}


def test_texts_without_a_fragment_are_named() -> None:
    class Barren:
        def split(self, item: TextItem) -> tuple[str, ...]:
            return () if item.id in ("t1", "t2") else (item.text,)

    items = [TextItem(f"t{i}", "灰") for i in range(4)]
    with pytest.raises(DataError, match="2 texts have no fragment, the first: 't1', 't2'; look at the fragmenter"):
        fragments_of(Barren(), items)
    assert fragments_of(None, items) == (("灰",),) * 4


def test_texts_of_several_pictures_are_learned_with_the_first_and_counted(
    front: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Greys(4)
    data.texts = (TextItem("两张", "灰，方", ("g02", "g00")), *data.texts[1:])
    material = material_of(front(), data, tmp_path / "f", quiet=True)
    assert [material.images.ids[row] for row in material.rows.tolist()] == ["g02", "g01", "g02", "g03"]
    assert "greys: 1 texts are of several pictures; each is learned with its first\n" in capsys.readouterr().err
