"""Vectors of whole pictures and texts against the library's own encode calls, on tiny random weights."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from heritage_align_plugins.sentence_transformers.config import WholeConfig, refuse_other_family
from heritage_align_plugins.sentence_transformers.pictures import fitted, pack, unpack
from heritage_align_plugins.sentence_transformers.whole import SentenceTransformersEncoder
from heritage_align_plugins.transformers.strips import LONGEST
from PIL import Image, ImageChops
from sentence_transformers import SentenceTransformer

from heritage_align.errors import CheckpointError, ConfigError, Note
from heritage_align.protocols import BuildContext, Encoder
from heritage_align.testing import Case, check_component

TEXTS = ["blue silk", "蓝地缠枝莲纹锦", "a crane, 鹤, among clouds of many colours"]
SAME = {"atol": 2e-6, "rtol": 0}


def build(folder, **settings):
    return SentenceTransformersEncoder(WholeConfig(model=str(folder), **settings), BuildContext())


@pytest.fixture(scope="module")
def own(models):
    return SentenceTransformer(str(models / "embedding"), device="cpu", local_files_only=True)


def encoded(encoder, images):
    return encoder.encode_pixels(torch.stack([encoder.prepare(image) for image in images])).global_features


def test_vectors_are_those_of_the_library(models, own, picture):
    encoder = build(models / "embedding")
    assert isinstance(encoder, Encoder)
    images = [picture(40, 60), picture(90, 30), picture(7, 7)]
    torch.testing.assert_close(encoded(encoder, images), own.encode_document(images, convert_to_tensor=True), **SAME)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), own.encode_query(TEXTS, convert_to_tensor=True), **SAME)
    scores = encoder.encode_texts(TEXTS) @ encoded(encoder, images).T
    torch.testing.assert_close(scores, own.similarity(own.encode_query(TEXTS), own.encode_document(images)), **SAME)


def test_prompts_and_dimensions_are_the_library_s_too(models, own, picture):
    encoder = build(models / "embedding", query_prompt="Look for ", document_prompt="", dim=12)
    images = [picture(40, 60)]
    texts = own.encode_query(TEXTS, prompt="Look for ", truncate_dim=12, normalize_embeddings=True)
    documents = own.encode_document(images, prompt="", truncate_dim=12, normalize_embeddings=True)
    assert encoder.dim == 12
    torch.testing.assert_close(encoder.encode_texts(TEXTS), torch.from_numpy(texts), **SAME)
    torch.testing.assert_close(encoded(encoder, images), torch.from_numpy(documents), **SAME)
    plain = build(models / "embedding", dim=12)
    assert not torch.allclose(plain.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-3)
    assert not torch.allclose(encoded(plain, images), encoded(encoder, images), atol=1e-3)


def test_another_similarity_than_the_cosine_is_said(models, tmp_path, recwarn):
    folder = shutil.copytree(models / "embedding", tmp_path / "dot")
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "similarity_fn_name": "dot"}))
    build(folder)  # it ends in a normalisation, after which they are the same
    assert not [w for w in recwarn if issubclass(w.category, Note)]
    modules = json.loads((folder / "modules.json").read_text())
    assert modules.pop()["type"].endswith("Normalize")
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.warns(Note, match="dot: its files ask for similarity 'dot'; its vectors are compared by their cosine"):
        build(folder)


@pytest.mark.slow
def test_it_conforms(models):
    settings = {"model": str(models / "embedding"), "max_pixels": 2000, "dim": 8}
    results = check_component(Case("encoder", "sentence_transformers", settings))
    skipped = {r.check for r in results if r.state == "skipped"}
    assert skipped == {
        "check_nested_places",
        "check_pooled_boxes",
        "check_recipe_is_what_prepare_does",
        "check_features_of_another_width_are_refused",
    }


def test_precision_changes_the_vectors_and_not_the_fingerprint(models, picture):
    config = WholeConfig(model=str(models / "embedding"))
    half = SentenceTransformersEncoder(config, BuildContext(precision="bf16"))
    full = build(models / "embedding")
    assert half.fingerprint() == full.fingerprint()
    found = encoded(half, [picture(40, 60)])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, encoded(full, [picture(40, 60)]), atol=0.03, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 160), (640, 2), (100, 90), (9000, 1), (1, 9000)])
def test_packed_pictures_come_back(picture, size):
    image = picture(*size)
    (back,) = unpack(pack(image, 10_000)[None])
    if max(size) > LONGEST * min(size):
        assert back.size == tuple(min(side, LONGEST * min(size)) for side in size)
    else:
        assert ImageChops.difference(back, image).getbbox() is None


@pytest.mark.parametrize("size", [(101, 100), (4000, 30), (1, 180), (777, 333)])
@pytest.mark.parametrize("most", [1, 50, 5000])
def test_a_picture_with_more_pixels_is_made_smaller(picture, size, most):
    width, height = fitted(picture(*size), most).size
    assert 1 <= width * height <= most
    if size == (777, 333) and most == 5000:
        assert (width, height) == (108, 46)


def test_a_strip_is_encoded(models, picture):
    encoder = build(models / "embedding")
    with pytest.raises(ValueError, match="aspect ratio"):
        SentenceTransformer(str(models / "embedding"), device="cpu").encode_document([picture(4000, 10)])
    assert encoded(encoder, [picture(4000, 10)]).isfinite().all()


def refused(folder, **settings):
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        Case("encoder", "sentence_transformers", {"model": str(folder), **settings}).build()
    message = str(caught.value)
    assert "\n" not in message or isinstance(caught.value, ConfigError)
    return message


def test_what_cannot_be_loaded_is_said_in_a_line(models, tmp_path):
    assert "there is no such folder" in refused(tmp_path / "nowhere")
    assert "hf download Qwen/No-Such-Model --revision v1" in refused("Qwen/No-Such-Model", revision="v1")
    assert "take encoder {name: multi_vector}" in refused(models / "late")
    assert "ColQwen2ForRetrieval; take encoder {name: multi_vector}" in refused(models / "colqwen")
    assert "take search.last: {name: cross_encoder}" in refused(models / "reranker")
    assert "there is no modules.json" in refused(models / "qwen3")
    assert "dim: " in refused(models / "embedding", dim=33)
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "clip", "architectures": ["CLIPModel"]}')
    assert "encoder {name: transformers} reads a clip model" in refused(folder)
    (folder / "config.json").write_text("[1]")
    assert "expected a JSON object, got list" in refused(folder)


def damaged(models, tmp_path, change):
    folder = tmp_path / "damaged"
    shutil.copytree(models / "embedding", folder)
    change(folder)
    return refused(folder)


def test_a_damaged_model_is_said_in_a_line(models, tmp_path):
    def pointer(folder):
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")

    assert "Git LFS" in damaged(models, tmp_path, pointer)


def test_missing_weights_are_not_drawn_by_chance(models, tmp_path):
    from safetensors.torch import load_file, save_file

    def drop(folder):
        state = load_file(folder / "model.safetensors")
        name = next(key for key in sorted(state) if "mlp" in key)
        save_file({k: v for k, v in state.items() if k != name}, folder / "model.safetensors", {"format": "pt"})

    assert "weights are missing (" in damaged(models, tmp_path, drop)


def test_weights_that_are_no_numbers_are_refused(models, tmp_path):
    from safetensors.torch import load_file, save_file

    def spoil(folder):
        state = load_file(folder / "model.safetensors")
        state[sorted(state)[0]].fill_(float("nan"))
        save_file(state, folder / "model.safetensors", {"format": "pt"})

    assert "NaN" in damaged(models, tmp_path, spoil)


def test_code_of_a_model_is_not_run(models, tmp_path):
    def plant(folder):
        modules = json.loads((folder / "modules.json").read_text())
        modules[1]["type"] = "own_code.Pooling"
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "own_code.py").write_text("raise SystemExit('the code of the folder was run')")

    assert "which is code of the model's own, and no such code is run" in damaged(models, tmp_path, plant)


def test_a_model_without_its_tokenizer_is_named(models, tmp_path):
    def drop(folder):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()

    assert "there is no tokenizer (tokenizer.json)" in damaged(models, tmp_path, drop)


def test_patches_are_refused(models, picture):
    encoder = build(models / "embedding")
    with pytest.raises(ValueError, match="one vector a picture"):
        encoder.encode_pixels(encoder.prepare(picture(9, 9))[None], patches=True)
    with pytest.raises(ValueError, match="expected uint8"):
        encoder.encode_pixels(torch.zeros(1, 3, 8, 8))


def test_a_picture_in_another_mode_is_read(models, picture):
    encoder = build(models / "embedding")
    grey = picture(40, 60).convert("L")
    torch.testing.assert_close(encoded(encoder, [grey]), encoded(encoder, [grey.convert("RGB")]), **SAME)
    assert isinstance(grey, Image.Image)


@pytest.mark.parametrize("kind", [["SentenceTransformer"], {"a": 1}, None, 3])
def test_a_class_that_is_no_text_is_another_class(tmp_path, kind):
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(CheckpointError, match=r"config_sentence_transformers\.json says .*, not SentenceTransformer"):
        refuse_other_family(tmp_path, "SentenceTransformer")
    (tmp_path / "modules.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "architectures": kind}))
    with pytest.raises(CheckpointError, match=r"there is no modules\.json, so it is no CrossEncoder"):
        refuse_other_family(tmp_path, "CrossEncoder")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("chat_template.jinja", "{% if %}", "cannot be used: TemplateSyntaxError"),
        ("chat_template.jinja", "{{ raise_exception('no pictures') }}", "cannot be used: TemplateError: no pictures"),
        ("chat_template.jinja", "no place for a picture", "cannot be used: The total number of <|image_pad|> tokens"),
        ("config.json", {"text_config": {"hidden_size": "x"}}, "for field 'hidden_size': TypeError"),
        ("config.json", {"text_config": {"vocab_size": 200}}, "cannot load it: AssertionError: Padding_idx"),
        ("sentence_bert_config.json", {"max_seq_length": "a"}, "cannot be used: TypeError"),
        ("processor_config.json", {"image_processor": {"merge_size": 0}}, "cannot be used: ZeroDivisionError"),
        ("processor_config.json", {"image_processor": {"image_std": [0] * 3}}, "NaN or infinite numbers of a picture"),
    ],
)
def test_odd_settings_are_said_in_a_line(models, tmp_path, file, content, says):
    def odd(folder):
        if isinstance(content, str):
            (folder / file).write_text(content)
            return
        settings = json.loads((folder / file).read_text())
        for key, value in content.items():
            settings[key] = {**settings[key], **value} if isinstance(value, dict) else value
        (folder / file).write_text(json.dumps(settings))

    assert says in damaged(models, tmp_path, odd)
