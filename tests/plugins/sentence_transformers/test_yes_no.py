"""A vision-language model's yes and no against its own logits, on tiny random weights."""

from __future__ import annotations

import pytest
import torch
import transformers
from heritage_align_plugins.transformers.yes_no import YesNo
from heritage_align_plugins.transformers.yes_no_config import YesNoConfig

from heritage_align.errors import CheckpointError, ConfigError
from heritage_align.protocols import BuildContext, Reranker
from heritage_align.testing import Case, check_component

QUESTION = "Is this {text}?"


def build(folder, **settings):
    return YesNo(YesNoConfig(model=str(folder), **settings), BuildContext())


def test_ratings_are_the_share_of_yes_in_both_answers(models, picture):
    reranker = build(models / "qwen3", question=QUESTION, batch_size=2)
    assert isinstance(reranker, Reranker)
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(models / "qwen3").eval()
    processor = transformers.AutoProcessor.from_pretrained(models / "qwen3")
    pairs = [(picture(60, 40), "blue silk"), (picture(60, 60), "鹤"), (picture(30, 90), "a crane among clouds")]
    yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = []
    for image, text in pairs:
        content = [{"type": "image"}, {"type": "text", "text": f"Is this {text}?"}]
        written = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        with torch.inference_mode():
            logits = model(**processor(text=[written], images=[image], return_tensors="pt")).logits[0, -1]
        expected.append(torch.sigmoid(logits[yes] - logits[no]).item())
    torch.testing.assert_close(reranker.rate(pairs), torch.tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.slow
def test_it_conforms(models):
    check_component(Case("reranker", "yes_no", {"model": str(models / "qwen3")}))


def test_the_other_way_round_is_the_rest(models, picture):
    pairs = [(picture(60, 40), "blue silk")]
    both = build(models / "qwen3").rate(pairs) + build(models / "qwen3", yes="no", no="yes").rate(pairs)
    torch.testing.assert_close(both, torch.ones(1))


def refused(error, **settings):
    with pytest.raises(error) as caught:
        Case("reranker", "yes_no", settings).build()
    message = str(caught.value)
    assert "\n" not in message or isinstance(caught.value, ConfigError)
    return message


def test_what_does_not_fit_is_said_in_a_line(models, tmp_path):
    assert "yes: 'yes, it does' is 10 tokens" in refused(ConfigError, model=str(models / "qwen3"), yes="yes, it does")
    assert "hf download org/none" in refused(CheckpointError, model="org/none")
    assert "there is no such folder" in refused(CheckpointError, model=str(tmp_path / "none"))
    assert "cannot load it" in refused(CheckpointError, model=str(models / "colqwen"))
    with pytest.raises(ValueError, match="has no {text}"):
        YesNoConfig(model="x", question="Is it?")


def test_a_model_without_a_conversation_is_refused(models, tmp_path):
    import shutil

    folder = tmp_path / "mute"
    shutil.copytree(models / "qwen3", folder)
    (folder / "chat_template.jinja").unlink()
    assert "has no chat template" in refused(CheckpointError, model=str(folder))
    (folder / "tokenizer.json").unlink()
    assert "there is no tokenizer (tokenizer.json)" in refused(CheckpointError, model=str(folder))


def test_a_template_that_does_not_parse_is_said_in_a_line(models, tmp_path):
    import shutil

    folder = shutil.copytree(models / "qwen3", tmp_path / "qwen3")
    (folder / "chat_template.jinja").write_text("{% for %}")
    assert "cannot be used: TemplateSyntaxError" in refused(CheckpointError, model=str(folder))


def test_one_answer_for_both_is_refused():
    with pytest.raises(ValueError, match=r"no: is 'no', as yes is: every picture would be rated 0\.5"):
        YesNoConfig(model="x", yes="no")
