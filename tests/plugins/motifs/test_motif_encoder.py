"""The shipped encoder: its file, and that it has learned what its README says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from heritage_align_plugins.cn_clip.architecture import MOTIF_SMALL_FILE, read_embedded

from heritage_align.cli.options import read_config
from heritage_align.config import load_config
from heritage_align.evaluation.comparison import SystemOutcome, compare_systems
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.recipes import load_recipe
from heritage_align.training.run import run_training

ARTWORKS = 24  # of the validation split: 96 pictures in families of four, chance is 1 % at rank 1


def test_the_file_is_small_and_says_what_it_is() -> None:
    assert MOTIF_SMALL_FILE.stat().st_size <= 12_000_000
    architecture = read_embedded(MOTIF_SMALL_FILE)
    assert architecture.name == "motif-small"
    assert architecture.vocab_size == 21128  # cn_clip's tokeniser needs every one of them


@pytest.fixture(scope="module")
def outcomes() -> list[SystemOutcome]:
    settings = ["data.split=val", f"data.artworks={ARTWORKS}"]
    configs = [load_recipe(name, settings) for name in ("global", "late-interaction", "scan", "bfan")]
    return compare_systems(configs, build_dataset(configs[0]))


def test_captions_find_their_artworks(outcomes: list[SystemOutcome]) -> None:
    """By chance R@10 is 10 %; the global vector has 98 % or more, which is to say the right family of four."""
    for direction in outcomes[0].evaluation.result.directions.values():
        assert direction.recall[10] > 80


def test_details_decide_within_a_family(outcomes: list[SystemOutcome]) -> None:
    """The point of the collection: with 50 validation artworks text-to-image R@1 rises from 48 to 68 or more."""
    whole = outcomes[0].evaluation.result
    for outcome in outcomes[1:]:
        for name, direction in outcome.evaluation.result.directions.items():
            assert direction.recall[1] > whole.directions[name].recall[1] + 8, (outcome.evaluation.result.system, name)


def test_a_detail_is_named_by_its_phrase() -> None:
    """A cut-out motif finds its phrase among all phrases of the split; chance is below 1 %."""
    config = load_recipe("global", ["data.split=val", f"data.artworks={ARTWORKS}"])
    encoder, val = Pipeline(config).encoder, build_dataset(config)
    pairs = [g for g in val.golden if g.box[2] - g.box[0] < 128][::9]
    pictures = {i: val.load_image(i) for i in {g.image_id for g in pairs}}
    crops = [encoder.prepare(pictures[g.image_id].crop(tuple(map(int, g.box)))) for g in pairs]
    encoded = encoder.encode_pixels(torch.stack(crops)).global_features
    for language in (0, 1):
        names = list(dict.fromkeys(g.phrases[language] for g in val.golden))
        best = (encoded @ encoder.encode_texts(names).T).argmax(1).tolist()
        right = sum(names[b] == g.phrases[language] for b, g in zip(best, pairs)) / len(pairs)
        assert right > 0.3  # measured 0.47 in both


def test_its_configurations_train_an_encoder_of_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both runs of the example, on a few designs and for one epoch each."""
    example = Path(__file__).parents[3] / "examples/train_motif_encoder"
    for name in ("motif-small.json", "details.yaml", "motif-small.yaml"):
        shutil.copy(example / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    few = ["train.epochs=1", "train.batch_size=4", "train.warmup=1", "runtime.device=cpu"]
    of = {
        "details": ["train.data.of.artworks=3", "train.data.each=2", "train.validation.of.artworks=2"],
        "motif-small": [
            "train.data.of.0.artworks=3",
            "train.data.of.1.of.artworks=2",
            "train.data.of.1.each=1",
            "train.validation.artworks=2",
        ],
    }
    for name, smaller in of.items():
        run_training(read_config(f"{name}.yaml", (*few, *smaller)), Path("runs") / name, quiet=True)
    trained = tmp_path / "runs/motif-small/model.safetensors"
    assert read_embedded(trained) == read_embedded(MOTIF_SMALL_FILE)
    config = load_config(tmp_path / "runs/motif-small/config.yaml", ["data.artworks=1"])
    assert compare_systems([config], build_dataset(config))[0].evaluation.result.mean_recall > 0
