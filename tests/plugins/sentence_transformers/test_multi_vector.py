"""Token vectors and their scores against the library's own encode, masks and maxsim, on tiny random weights."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from heritage_align_plugins.sentence_transformers.config import MultiVectorConfig
from heritage_align_plugins.sentence_transformers.multi_vector import MultiVector
from sentence_transformers import MultiVectorEncoder

from heritage_align import Pipeline, build_index
from heritage_align.encoding import ImageSource
from heritage_align.errors import CheckpointError, ConfigError, DataError
from heritage_align.protocols import BuildContext, Encoder, FeatureEncoder, FragmentEncoder
from heritage_align.search import Searcher
from heritage_align.store import Store
from heritage_align.testing import Case, check_component
from heritage_align.types import TextItem

QUERIES = ["blue silk", "蓝地缠枝莲纹锦", "a crane, 鹤, among clouds of many colours"]
KINDS = ["colqwen", "late"]
SAME = {"atol": 2e-5, "rtol": 0}


def build(folder, **settings):
    return MultiVector(MultiVectorConfig(model=str(folder), **settings), BuildContext())


def config(folder, **sections):
    return {
        "version": 1,
        "name": "late",
        "encoder": {"name": "multi_vector", "model": str(folder)},
        "proposer": {"name": "multi_vector"},
        "fragmenter": {"name": "multi_vector"},
        "similarity": {"name": "late_interaction", "aggregate": "sum"},
        "runtime": {"device": "cpu", "workers": 1},
        **sections,
    }


@pytest.fixture(scope="module", params=KINDS)
def folder(request, models):
    return models / request.param


@pytest.fixture(scope="module")
def own(folder):
    return MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def images(picture):
    return [picture(60, 40), picture(60, 60), picture(30, 90)]


def test_scores_are_maxsim_of_the_library(folder, own, images):
    pipeline = Pipeline.from_config(config(folder))
    features = pipeline.encode_images(images, ["a", "b", "c"])
    texts = pipeline.encode_texts([TextItem(str(n), text) for n, text in enumerate(QUERIES)])
    documents, queries = own.encode_document(images), own.encode_query(QUERIES)
    for place, expected in enumerate(documents):
        torch.testing.assert_close(features.regions[place], expected, **SAME)
    for place, expected in enumerate(queries):
        torch.testing.assert_close(texts.fragments[place], expected, **SAME)
    torch.testing.assert_close(pipeline.score(features, texts).T, own.similarity(queries, documents), atol=2e-4, rtol=0)


def test_scores_are_meanmaxsim_too(folder, own, images):
    pipeline = Pipeline.from_config(config(folder, similarity={"name": "late_interaction", "aggregate": "mean"}))
    features = pipeline.encode_images(images, ["a", "b", "c"])
    texts = pipeline.encode_texts([TextItem("q", QUERIES[0])])
    expected = own.similarity(own.encode_query(QUERIES[:1]), own.encode_document(images), length_normalize=True)
    torch.testing.assert_close(pipeline.score(features, texts).T, expected, **SAME)


def test_tokens_of_a_picture_have_their_places(folder, images):
    encoder = build(folder)
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, FeatureEncoder)
    assert isinstance(encoder, FragmentEncoder)
    for image, tokens in zip(images, encoder.encode_pictures(images)):
        whole = (tokens.boxes == torch.tensor([0.0, 0.0, 1.0, 1.0])).all(1)
        # The mask of `late` leaves the picture's own tokens alone.
        assert bool(whole.any()) == (folder.name == "colqwen")
        cells = tokens.boxes[~whole]
        sides = cells[:, 2:] - cells[:, :2]
        rows, columns = round(1 / sides[0, 1].item()), round(1 / sides[0, 0].item())
        assert len(cells) == rows * columns
        assert (columns > rows) == (image.width > image.height)
        torch.testing.assert_close(sides.prod(1).sum(), torch.tensor(1.0))
        assert cells[0, :2].tolist() == [0, 0]
        assert cells[1, 1] == 0
        assert cells[1, 0] > 0
        assert len(cells.unique(dim=0)) == len(cells)


def test_a_cell_is_where_the_picture_was_changed(models, images):
    """The token that changes most when a corner is painted over is the corner's."""
    encoder = build(models / "late")
    image = images[1].copy()
    before = encoder.encode_pictures([image])[0]
    for place, corner in ((before.boxes[0], (0, 0)), (before.boxes[-1], (52, 52))):
        painted = image.copy()
        painted.paste((255, 0, 0), (*corner, corner[0] + 8, corner[1] + 8))
        after = encoder.encode_pictures([painted])[0]
        moved = (after.vectors - before.vectors).norm(dim=1)
        assert torch.equal(before.boxes[moved.argmax()], place)


def test_tokens_of_a_query_are_named(folder, own):
    encoder = build(folder)
    for text in QUERIES:
        tokens = encoder.query_tokens(text)
        assert len(tokens) == len(own.encode_query([text])[0])
        assert all(token.strip() for token in tokens)
    assert "b" in encoder.query_tokens("blue")
    assert "e" in encoder.query_tokens("blue")


def test_expansion_of_queries_is_the_library_s(models):
    own = MultiVectorEncoder(str(models / "colqwen"), device="cpu", local_files_only=True)
    # Its processor puts ten marks after every query.
    encoder = build(models / "colqwen")
    assert encoder.query_tokens("x")[-11:-1] == ("<|endoftext|>",) * 10
    assert len(encoder.query_tokens("x")) == len(own.encode_query("x"))


@pytest.mark.parametrize("prompt", ["Look for ", ""])
def test_prompts_are_the_library_s_too(models, prompt):
    own = MultiVectorEncoder(str(models / "late"), device="cpu", local_files_only=True)
    encoder = build(models / "late", query_prompt=prompt)
    tokens = [encoder.query_tokens(text) for text in QUERIES]
    found = encoder.encode_fragmented(QUERIES, tokens).fragments
    torch.testing.assert_close(found, torch.cat(own.encode_query(QUERIES, prompt=prompt)), **SAME)
    assert len(found) != sum(len(build(models / "late").query_tokens(text)) for text in QUERIES)


@pytest.mark.slow
def test_they_conform(models):
    settings = {"model": str(models / "late")}
    encoder = {"name": "multi_vector", **settings}
    results = check_component(Case("encoder", "multi_vector", settings, feature_dim=128))
    assert {r.state for r in results if r.check in ("check_text_vectors", "check_image_vectors")} == {"passed"}
    check_component(Case("proposer", "multi_vector", {"batch_size": 2}, encoder=encoder))
    check_component(Case("fragmenter", "multi_vector", encoder=encoder))


@pytest.mark.slow
def test_thousands_of_tokens_a_picture_stay_within_memory(models, picture, tmp_path):
    """What is kept of a token is its 128 bytes and a scale; the scores are those of the library to a hundredth."""
    large = models / "colqwen-large"
    made = config(large, store={"dtype": "int8"}, runtime={"device": "cpu", "workers": 1, "batch_size": 2})
    pipeline = Pipeline.from_config(made)
    images = {f"{n}.png": picture(560, 440 + n) for n in range(2)}
    sources = [ImageSource(name, lambda image=image: image) for name, image in images.items()]
    build_index(pipeline, sources, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    tokens = [len(found.vectors) for found in build(large).encode_pictures(list(images.values()))]
    assert min(tokens) > 1000
    held = sum(file.stat().st_size for file in (tmp_path / "store").glob("shard-*.safetensors"))
    per_token = 128 + 16 + 8  # int8 values, four fp32 corners, a scale and what is round it
    assert held < sum(tokens) * per_token + 2**16, held / sum(tokens)
    assert len(store) == 2
    own = MultiVectorEncoder(str(large), device="cpu", local_files_only=True)
    expected = own.similarity(own.encode_query(QUERIES), own.encode_document(list(images.values())))
    with Searcher.open(pipeline, tmp_path / "store") as searcher:
        items = [TextItem(str(n), text) for n, text in enumerate(QUERIES)]
        scores = searcher.score_all(pipeline.encode_texts(items)).T
        per_query = torch.tensor([len(build(large).query_tokens(text)) for text in QUERIES])
        assert ((scores - expected) / per_query[:, None]).abs().max() < 0.01
        [hits] = searcher.hits([items[0]])
        assert hits[0].id == list(images)[int(scores[0].argmax())]
        assert len(hits[0].regions) == per_query[0]


def test_its_parts_need_each_other(models, picture):
    toy = {"name": "cn_clip", "model": "motif-small"}
    for part in ("proposer", "fragmenter"):
        with pytest.raises(ConfigError, match=f"{part}.name: 'multi_vector' gives what encoder multi_vector makes"):
            Case(part, "multi_vector").build()
    with pytest.raises(ConfigError, match="name a proposer that gives them"):
        Pipeline.from_config(config(models / "late", proposer={"name": "patch_grid"}))
    with pytest.raises(ConfigError):
        Pipeline.from_config(config(models / "late", encoder=toy, fragmenter={"name": "annotated"}))
    pipeline = Pipeline.from_config(config(models / "late", fragmenter={"name": "punctuation"}))
    with pytest.raises(DataError, match="compares its own tokens; name fragmenter multi_vector"):
        pipeline.encode_texts([TextItem("q", "blue, silk")])
    with pytest.raises(DataError, match="name proposer multi_vector"):
        build(models / "late").prepare(picture(9, 9))


def test_what_cannot_be_loaded_is_said_in_a_line(models, tmp_path):
    for name, said in (
        ("embedding", "take encoder {name: sentence_transformers}"),
        ("reranker", "take search.last: {name: cross_encoder}"),
        ("qwen3", "there is no modules.json"),
    ):
        with pytest.raises(CheckpointError) as caught:
            build(models / name)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    folder = tmp_path / "broken"
    shutil.copytree(models / "colqwen", folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="MultiVectorEncoder cannot load it"):
        build(folder)


def test_a_mask_that_leaves_nothing_is_named(models, picture):
    encoder = build(models / "late")
    encoder._masks[0].keep_only_token_ids = [0]
    with pytest.raises(DataError, match=r"images\[0\]: the mask of .* leaves none of its tokens"):
        encoder.encode_pictures([picture(9, 9)])


def test_a_store_of_another_width_is_refused(models, picture, tmp_path):
    """A store and a query encoder that do not belong together, by the fingerprint before any width."""
    pipeline = Pipeline.from_config(config(models / "late"))
    build_index(pipeline, [ImageSource("a", lambda: picture(9, 9))], tmp_path / "store")
    other = Pipeline.from_config(config(models / "colqwen"))
    with pytest.raises(Exception, match="encoder") as caught:
        Searcher.open(other, tmp_path / "store")
    assert "\n" not in str(caught.value)
    features = pipeline.encode_images([picture(9, 9)], ["a"])
    narrow = replace(features, regions=None).global_features[:, :64]
    with pytest.raises(DataError, match="have 64 dimensions"):
        pipeline.encoder.encode_features(narrow)


def test_a_template_that_does_not_parse_is_said_in_a_line(models, tmp_path):
    folder = shutil.copytree(models / "late", tmp_path / "late")
    (folder / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(CheckpointError, match=r"late: .*cannot be used: TemplateSyntaxError") as caught:
        build(folder)
    assert "\n" not in str(caught.value)
