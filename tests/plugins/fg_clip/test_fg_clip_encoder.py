"""The encoder in pipelines: the kit, packed pictures, files as the hub has them, and what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner
from heritage_align_plugins.fg_clip import blocks
from heritage_align_plugins.fg_clip.config import FgClipConfig
from heritage_align_plugins.fg_clip.description import Tower
from heritage_align_plugins.fg_clip.encoder import FgClipEncoder
from heritage_align_plugins.fg_clip.pictures import Packed, grid_of, most_patches
from PIL import Image
from safetensors.torch import load_file, save_file

from heritage_align import Pipeline, load_recipe
from heritage_align.cli import cli
from heritage_align.errors import CheckpointError, ConfigError
from heritage_align.indexing import build_index
from heritage_align.pipeline import dataset_sources
from heritage_align.planning import plan
from heritage_align.protocols import BuildContext, Encoder, FlexibleEncoder, RegionEncoder
from heritage_align.search import Searcher
from heritage_align.testing import Case, check_component
from heritage_align.types import TextItem

SMALL = ["data.artworks=2", "data.variants=1", "data.size=64", "runtime.device=cpu"]


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a tiny checkpoint, so that a test may break it."""

    def copy(generation: str) -> Path:
        return Path(shutil.copytree(folders[generation], tmp_path / generation))

    return copy


def opened(folder: Path, **settings: Any) -> FgClipEncoder:
    return FgClipEncoder(FgClipConfig(model=str(folder), **settings), BuildContext())


@pytest.mark.parametrize("settings", [{}, {"regions": "crops", "texts": "long", "patches": 128}])
@pytest.mark.parametrize("generation", ["first", "second"])
def test_conformance(folders, generation, settings):
    results = check_component(Case("encoder", "fg_clip", {"model": str(folders[generation]), **settings}))
    states = {result.check: result.state for result in results}
    assert states["check_patches"] == "passed"
    assert states["check_pooled_boxes"] == ("skipped" if settings else "passed")
    assert states["check_recipe_is_what_prepare_does"] == ("passed" if generation == "first" else "skipped")


def test_what_it_offers(build):
    for generation, grid in (("first", (4, 4)), ("second", None)):
        encoder = build(generation)
        assert isinstance(encoder, Encoder)
        assert isinstance(encoder, RegionEncoder)
        assert isinstance(encoder, FlexibleEncoder)
        assert encoder.patch_grid == grid
        assert encoder.fingerprint().startswith(f"fg_clip/{1 + (grid is None)}/sha256:")


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (160, 160, 128),
        (192, 176, 256),
        (256, 256, 256),
        (400, 300, 576),
        (448, 448, 784),
        (464, 448, 1024),
        (9, 9, 128),
    ],
)
def test_the_published_steps(width, height, expected):
    assert most_patches(width, height, 16) == expected


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (3, 7), (640, 480), (20000, 15000)])
@pytest.mark.parametrize("most", [128, 1024])
def test_grids_hold_no_more_than_they_may(width, height, most):
    rows, columns = grid_of(width, height, 16, most)
    assert rows >= 1
    assert columns >= 1
    assert rows * columns <= most


def test_packed_pictures_say_what_they_are(build):
    encoder = build("second", patches=256)
    pixels = torch.stack([encoder.prepare(picture) for picture in tiny.pictures()])
    packed = Packed(pixels)
    assert packed.grids == [encoder.grid_of(*size) for size in tiny.SIZES]
    assert packed.rows().shape == (2, max(packed.counts), 48)
    flat = Image.new("RGB", (8, 8), (255, 0, 51))
    [row] = Packed(encoder.prepare(flat)[None]).rows()[0, :1]
    torch.testing.assert_close(row.reshape(16, 3), torch.tensor([[1.0, -1.0, -0.6]]).expand(16, 3))


@pytest.mark.parametrize("generation", ["first", "second"])
def test_fragments_are_read_as_phrases_of_regions(build, generation):
    encoder = build(generation, texts="long")
    box, long = build(generation, texts="box"), build(generation, texts="long")
    found = encoder.encode_fragmented(["birds 鹤", "a"], [["鹤", "birds"], ["鹤"]])
    torch.testing.assert_close(found.global_features, long.encode_texts(["birds 鹤", "a"]))
    torch.testing.assert_close(found.fragments, box.encode_texts(["鹤", "birds", "鹤"]), atol=1e-6, rtol=0)


def test_long_texts_are_read_to_their_end_in_mode_long(build):
    texts = ["birds " * 30 + "x", "birds " * 30 + "蓝"]  # beyond 64 tokens, within 196
    short, long = build("second"), build("second", texts="long")
    torch.testing.assert_close(*short.encode_texts(texts))
    assert not torch.allclose(*long.encode_texts(texts), atol=1e-4)
    assert (short.context_length, long.context_length) == (64, 196)


@pytest.mark.parametrize("generation", ["first", "second"])
def test_half_precision_is_near(build, generation):
    pictures = tiny.pictures()
    full, half = build(generation), build(generation, precision="bf16")
    pixels = torch.stack([full.prepare(picture) for picture in pictures])
    found, expected = half.encode_pixels(pixels), full.encode_pixels(pixels)
    assert found.global_features.dtype == torch.float32
    assert (found.global_features * expected.global_features).sum(1).min() > 0.99


def test_weights_in_parts_and_in_half_precision(copied, build):
    folder = copied("second")
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    parts = {"a.safetensors": names[:40], "b.safetensors": names[40:]}
    for file, own in parts.items():
        save_file({name: state[name].half().contiguous() for name in own}, folder / file)
    index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    texts = ["two cranes"]
    torch.testing.assert_close(
        opened(folder).encode_texts(texts), build("second").encode_texts(texts), atol=5e-3, rtol=0
    )
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match="there is no b.safetensors, which model.safetensors.index.json names"):
        opened(folder)


@pytest.mark.parametrize("generation", ["first", "second"])
def test_the_recipe_on_a_stand_in(folders, generation, tmp_path):
    pipeline = Pipeline(load_recipe("fg-clip-regions", [f"encoder.model={folders[generation]}", *SMALL]))
    build_index(pipeline, list(dataset_sources(pipeline.dataset())), tmp_path / "store")
    searcher = Searcher.open(pipeline, tmp_path / "store")
    [hits] = searcher.hits([TextItem("q", "蓝地对鸟纹", phrases=("蓝", "鸟纹"))], top_k=2)
    assert len(hits) == 2
    assert all(len(hit.regions) == 2 for hit in hits)
    crops = load_recipe("fg-clip-regions", [f"encoder.model={folders[generation]}", "encoder.regions=crops", *SMALL])
    assert Pipeline(crops).identity()["image_config"] != pipeline.identity()["image_config"]
    longer = load_recipe("fg-clip-regions", [f"encoder.model={folders[generation]}", "encoder.texts=long", *SMALL])
    assert Pipeline(longer).identity()["image_config"] == pipeline.identity()["image_config"]


def test_dense_features_of_pictures_in_their_own_shapes(folders):
    dense = ["proposer={name: patch_grid, mode: tokens}", f"encoder.model={folders['second']}", *SMALL]
    pipeline = Pipeline(load_recipe("fg-clip-regions", dense))
    pictures = tiny.pictures()
    features = pipeline.encode_images(pictures, ["a", "b"])
    counts = [rows * columns for rows, columns in (pipeline.encoder.grid_of(*size) for size in tiny.SIZES)]
    assert features.regions is not None
    assert features.regions.offsets.tolist() == [0, counts[0], sum(counts)]
    torch.testing.assert_close(features.regions.values.norm(dim=1), torch.ones(sum(counts)))


HUB = """
import sys
from heritage_align.errors import CheckpointError
from heritage_align.protocols import BuildContext
from heritage_align_plugins.fg_clip.config import FgClipConfig
from heritage_align_plugins.fg_clip.encoder import FgClipEncoder
print(FgClipEncoder(FgClipConfig(model="qihoo360/tiny"), BuildContext()).fingerprint())
try:
    FgClipEncoder(FgClipConfig(model="qihoo360/not-there"), BuildContext())
except CheckpointError as error:
    print(error)
"""


@pytest.mark.slow
def test_names_on_the_hub_are_read_from_the_cache_offline(folders, build, tmp_path):
    repository = tmp_path / "models--qihoo360--tiny"
    shutil.copytree(folders["second"], repository / "snapshots" / "c0ffee")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_HUB_CACHE": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run([sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fingerprint, missing = done.stdout.splitlines()
    assert fingerprint == build("second").fingerprint()
    assert missing.startswith("qihoo360/not-there: ")
    assert "it is neither a folder, nor to be had from the hub or its cache" in missing


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"model_type": "siglip2"}, "a 'siglip2' model, which is neither FG-CLIP nor FG-CLIP 2; take encoder"),
            (
                {"model_type": "clip", "architectures": ["CLIPModel"]},
                "a 'clip' model, .*take encoder {name: transformers",
            ),
            ({"model_type": "llava"}, "a 'llava' model, which is neither FG-CLIP nor FG-CLIP 2$"),
            ({}, "a 'None' model"),
            ({"model_type": "fgclip2", "text_config": "x"}, "text_config of config.json is str, expected an object"),
            ({"model_type": "fgclip2", "text_config": {"hidden_size": "x"}}, "a size that no model has"),
            ({"model_type": "fgclip2", "text_config": {"hidden_size": float("inf")}}, "a size that no model has"),
            ({"model_type": "fgclip", "vision_config": {"patch_size": 0}}, "a size that no model has"),
            ({"model_type": "fgclip", "text_config": {"num_hidden_layers": 10**6}}, "num_hidden_layers is 1000000"),
            ({"model_type": "fgclip", "text_config": {"num_hidden_layers": -1}}, "num_hidden_layers is -1"),
            ({"model_type": "fgclip", "text_config": {"hidden_size": 10**30}}, "hidden_size is 1000"),
            ({"model_type": "fgclip", "text_config": {"hidden_size": True}}, "hidden_size is True"),
            ({"model_type": "fgclip", "text_config": {"keep_len": 249}}, "a whole number from 1 to 248"),
            ({"model_type": "fgclip", "vision_config": {"image_size": 230}}, "no multiple of patch_size"),
            ({"model_type": "fgclip2", "vision_config": {"num_patches": 255}}, "num_patches no square"),
            ({"model_type": "fgclip", "projection_dim": None}, "projection_dim is None"),
            ({"model_type": "fgclip2", "text_config": {"hidden_act": "none"}}, "hidden_act is 'none', expected one of"),
            ({"model_type": "fgclip2", "text_config": {"hidden_act": [1]}}, r"hidden_act is \[1\]"),
            ({"model_type": "fgclip", "text_config": {"layer_norm_eps": float("nan")}}, "layer_norm_eps is nan"),
            ({"model_type": [], "architectures": 3}, "which is neither FG-CLIP nor FG-CLIP 2$"),
            ({"model_type": "fgclip2", "text_config": {"hidden_size": 30}}, "12 heads do not divide a width of 30"),
            ({"model_type": "fgclip2", "text_config": {"hidden_size": 24}}, "texts have 24 dimensions, pictures 768"),
        ],
    )
    def test_another_family(self, tmp_path, settings, message):
        (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            FgClipConfig(model=str(tmp_path)).facts()
        with pytest.raises(CheckpointError, match=message):
            opened(tmp_path)

    def test_files_that_are_missing(self, copied, tmp_path):
        folder = copied("second")
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"x")
        with pytest.raises(CheckpointError, match="neither model.safetensors nor .*; only safetensors are read"):
            opened(folder)
        (folder / "tokenizer.json").unlink()
        with pytest.raises(CheckpointError, match=r"there is no tokenizer \(tokenizer.json\): fetch"):
            opened(folder)
        with pytest.raises(ConfigError, match=r"encoder.model: there is no file .*config.json"):
            plan(load_recipe("fg-clip-regions", [f"encoder.model={tmp_path / 'nowhere'}"]))

    @pytest.mark.parametrize("generation", ["first", "second"])
    def test_a_tokenizer_that_knows_marks_alone(self, copied, generation):
        folder = copied(generation)
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        marks = {token["content"] for token in tokenizer["added_tokens"]}
        vocabulary = {word: number for word, number in tokenizer["model"]["vocab"].items() if word in marks}
        tokenizer["model"] |= {"vocab": vocabulary, "merges": []}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        with pytest.raises(CheckpointError, match="its tokenizer knows no word"):
            opened(folder)

    def test_the_command_line_says_it_in_one_line(self, copied):
        folder = copied("second")
        (folder / "tokenizer.json").unlink()
        data = [part for override in SMALL for part in ("--set", override)]
        wrong = CliRunner().invoke(cli, ["evaluate", "fg-clip-regions", "--set", f"encoder.model={folder}", *data])
        assert wrong.exit_code == 2
        assert wrong.stderr.strip().splitlines() == [
            f"error: {folder}: there is no tokenizer (tokenizer.json): fetch the files whose names begin with "
            "tokenizer as well"
        ]

    def test_weights_that_do_not_belong(self, copied):
        folder = copied("first")
        state = load_file(folder / "model.safetensors")
        without = {k: v for k, v in state.items() if not k.startswith("text_filip_projection")}
        save_file(without, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"1 weights are missing \(text_filip_projection.weight\)"):
            opened(folder)
        save_file({**state, "text_projection.weight": torch.zeros(3, 3)}, folder / "model.safetensors")
        with pytest.raises(
            CheckpointError, match=r"text_projection.weight has shape \(3, 3\), config.json says \(24, 32\)"
        ):
            opened(folder)
        save_file({**state, "text_projection.weight": torch.full((24, 32), torch.nan)}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match="text_projection.weight holds 768 of 768 numbers that are NaN"):
            opened(folder)
        (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 9\n")
        with pytest.raises(CheckpointError, match="is a Git LFS pointer"):
            opened(folder)

    @pytest.mark.parametrize(
        ("weight_map", "message"),
        [
            ({"a": 3, "b": "part.safetensors"}, "has no weight_map"),
            ({"a": ["part.safetensors"]}, "has no weight_map"),
            ([3], "has no weight_map"),
            ({"a": "../second/model.safetensors"}, "which is outside of the model's folder"),
            ({"a": "/model.safetensors"}, "which is outside of the model's folder"),
            ({"a": ""}, "which is outside of the model's folder"),
            ({"a": "gone.safetensors"}, "there is no gone.safetensors, which"),
        ],
    )
    def test_an_index_that_names_no_files_beside_it(self, copied, weight_map, message):
        folder = copied("second")
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            opened(folder)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"image_mean": ["a", "b", "c"]}, "image_mean of its image processor is"),
            ({"image_mean": [0.5, 0.5]}, "expected three numbers"),
            ({"image_std": [float("nan")] * 3}, "expected three numbers"),
            ({"image_std": [0, 1, 1]}, "nothing is divided by 0"),
        ],
    )
    def test_pictures_that_cannot_be_prepared(self, copied, settings, message):
        folder = copied("first")
        (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            opened(folder)

    @pytest.mark.parametrize("generation", ["first", "second"])
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"pad_token": None}, "its tokenizer has no pad_token"),
            ({"tokenizer_class": 3}, "AutoTokenizer cannot load it: AttributeError: 'int' object"),
            ({"extra_special_tokens": 3}, "AutoTokenizer cannot load it: TypeError: extra_special_tokens"),
        ],
    )
    def test_a_tokenizer_of_other_settings(self, copied, generation, settings, message):
        folder = copied(generation)
        whole = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        (folder / "tokenizer_config.json").write_text(json.dumps({**whole, **settings}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            opened(folder)

    def test_another_model_s_tokenizer(self, copied):
        """Its numbers are beyond this model's; or it ends no text, and all would be read at the same first token."""
        folder = copied("first")
        shutil.copy(copied("published") / "tokenizer.json", folder / "tokenizer.json")
        with pytest.raises(CheckpointError, match="makes token 494.. of a text, and the model has 514"):
            opened(folder)
        shutil.rmtree(folder)
        folder = copied("first")
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer["post_processor"] = None
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "!"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        with pytest.raises(CheckpointError, match="its tokenizer does not end texts"):
            opened(folder)

    def test_code_in_a_folder_is_not_run(self, copied, build):
        folder = copied("second")
        (folder / "modeling_fgclip2.py").write_text("raise SystemExit('ran')", encoding="utf-8")
        assert opened(folder).fingerprint() == build("second").fingerprint()

    def test_pixels_of_another_shape(self, build):
        with pytest.raises(ValueError, match=r"expected \(n, 3, 32, 32\), got \(1, 3, 8, 8\)"):
            build("first").encode_pixels(torch.zeros(1, 3, 8, 8))
        with pytest.raises(ValueError, match=r"expected \(n, 3, 16, 1025\), got \(1, 3, 16, 257\)"):
            build("second").encode_pixels(torch.zeros(1, 3, 16, 257))

    def test_a_store_of_another_size(self, folders):
        dims = [f"encoder.model={folders['second']}", f"text_encoder={{name: fg_clip, model: {folders['first']}}}"]
        with pytest.raises(
            ConfigError, match="text_encoder: 'fg_clip' works in 24 dimensions, encoder 'fg_clip' in 32"
        ):
            plan(load_recipe("fg-clip-regions", dims))


def test_a_product_with_its_activation_is_the_two_of_them(monkeypatch):
    """oneDNN applies GELU to the product that it has just made; where it cannot, and for gradients, torch does."""
    assert blocks.FUSED, "this build of torch has no product with an activation: the faster way is not tested"
    torch.manual_seed(4)
    mlp = blocks.Mlp(Tower(width=48, inner=96, heads=4, layers=1, epsilon=1e-6, activation="gelu_pytorch_tanh"))
    x = 3 * torch.randn(2, 7, 48)
    with torch.inference_mode():
        fused = mlp(x)
        monkeypatch.setattr(blocks, "FUSED", False)
        plain = mlp(x)
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=0)
    assert not torch.equal(fused, plain)  # else it was torch both times
    monkeypatch.setattr(blocks, "FUSED", True)
    learned = mlp(x)
    learned.sum().backward()
    assert torch.equal(learned.detach(), plain)
    assert mlp.fc1.weight.grad is not None


@pytest.mark.parametrize("mean", [0.25, [0.25, 0.25, 0.25]])
@pytest.mark.parametrize("nested", [True, False])
def test_mean_and_deviation_are_read_where_the_library_saves_them(copied, build, mean, nested):
    """A processor of pictures and texts together has them inside, and the library reads it before the other."""
    folder = copied("first")
    settings = {"image_mean": mean, "image_std": [0.5, 0.5, 0.5]}
    if nested:
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}), encoding="utf-8")
    else:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    recipe, published = opened(folder).pixel_recipe(), build("first").pixel_recipe()
    assert (recipe.mean, recipe.std) == ((0.25,) * 3, (0.5,) * 3)
    assert published.mean != recipe.mean
