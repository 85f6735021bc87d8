"""Ratings against the library's own predict, on tiny random weights."""

from __future__ import annotations

import shutil

import pytest
import torch
from heritage_align_plugins.sentence_transformers.config import CrossEncoderConfig
from heritage_align_plugins.sentence_transformers.cross_encoder import CrossEncoderReranker
from sentence_transformers import CrossEncoder

from heritage_align.errors import CheckpointError
from heritage_align.protocols import BuildContext, Reranker
from heritage_align.testing import Case, check_component

TEXTS = ["blue silk", "蓝地缠枝莲纹锦", "a crane, 鹤, among clouds"]


def build(folder, **settings):
    return CrossEncoderReranker(CrossEncoderConfig(model=str(folder), **settings), BuildContext())


@pytest.mark.parametrize("prompt", [None, "Does the picture show it? "])
def test_ratings_are_those_of_the_library(models, picture, prompt):
    own = CrossEncoder(str(models / "reranker"), device="cpu", local_files_only=True)
    reranker = build(models / "reranker", prompt=prompt, batch_size=2)
    assert isinstance(reranker, Reranker)
    images = [picture(60, 40), picture(60, 60), picture(30, 90)]
    expected = own.predict(list(zip(TEXTS, images)), prompt=prompt, convert_to_tensor=True)
    found = reranker.rate(list(zip(images, TEXTS)))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    order = own.rank(TEXTS[1], images, prompt=prompt)
    rated = reranker.rate([(image, TEXTS[1]) for image in images])
    assert rated.argsort(descending=True).tolist() == [answer["corpus_id"] for answer in order]


@pytest.mark.slow
def test_it_conforms(models):
    results = check_component(Case("reranker", "cross_encoder", {"model": str(models / "reranker"), "batch_size": 3}))
    skipped = {r.check for r in results if r.state == "skipped" and r.detail != "looks for no details"}
    assert skipped == {"check_nested_places"}


def test_what_cannot_be_loaded_is_said_in_a_line(models):
    for name, said in (
        ("embedding", "take encoder {name: sentence_transformers}"),
        ("late", "take encoder {name: multi_vector}"),
        ("qwen3", "there is no modules.json"),
        ("none", "there is no such folder"),
    ):
        with pytest.raises(CheckpointError) as caught:
            build(models / name)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_model_of_texts_alone_is_refused(tmp_path):
    from sentence_transformers.base.modules import Transformer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "silk"]
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertForSequenceClassification(BertConfig(vocab_size=len(words), num_labels=1, **small))
    bert.save_pretrained(tmp_path / "bert")
    BertTokenizer(vocab={word: n for n, word in enumerate(words)}).save_pretrained(tmp_path / "bert")
    module = Transformer(str(tmp_path / "bert"), transformer_task="sequence-classification")
    CrossEncoder(modules=[module], device="cpu").save(str(tmp_path / "texts"))
    with pytest.raises(CheckpointError, match="rates no text with a picture"):
        build(tmp_path / "texts")


def test_a_template_that_does_not_parse_is_said_in_a_line(models, tmp_path):
    folder = shutil.copytree(models / "reranker", tmp_path / "reranker")
    (folder / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(CheckpointError, match=r"reranker: .*cannot be used: .*TemplateSyntaxError") as caught:
        Case("reranker", "cross_encoder", {"model": str(folder)}).build()
    assert "\n" not in str(caught.value)
