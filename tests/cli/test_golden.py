"""``golden``: fragments against phrases, with their chance level, in the words of the command line."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from heritage_align_plugins.alignment.checkpoint import save_model
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.text.tokens import Vocabulary

from heritage_align.cli import cli
from heritage_align.config import load_config
from heritage_align.evaluation.golden_encoding import encode_golden, evaluate_golden
from heritage_align.pipeline import Pipeline

SMALL = ["--set", "data.artworks=2", "--set", "data.language=zh", "--set", "data.variants=1"]


def run(*arguments):
    return CliRunner().invoke(cli, ["golden", *arguments])


def test_table_has_the_level_of_chance_and_bleu():
    done = run("scan", *SMALL, "--bleu", "zh")
    assert done.exit_code == 0, done.output
    assert "chance" in done.output
    assert "BLEU-1 to 4" in done.output


def test_attention_ranks_pictures():
    done = run("scan", *SMALL, "--score", "attention", "--json")
    assert done.exit_code == 0, done.output
    (system,) = json.loads(done.output)["systems"]
    assert system["i2t"]["queries"] == 2  # pictures, of which there are two


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--bleu", "zh", "--score", "attention"], "--bleu"),
        (["--ks", "5,1"], "--ks"),
        (["--data", "benchmarks/results"], "no golden pairs"),
    ],
)
def test_mistakes_are_one_message(arguments, named):
    done = run("global", *arguments)
    assert done.exit_code == 2
    assert named in done.stderr
    assert "Traceback" not in done.output


def test_inner_products_are_of_vectors_with_their_lengths(tmp_path):
    torch.manual_seed(0)
    model = AlignmentModel(ModelSettings(dim=8, text=("bag",)), 128, Vocabulary.of(["白 鹤", "红 龙"]))
    save_model(model, tmp_path / "model.safetensors", features=False)
    base = {"name": "cn_clip", "model": "motif-small"}
    pipeline = Pipeline(
        load_config(
            {
                "version": 1,
                "name": "tiny",
                "encoder": {"name": "alignment", "checkpoint": str(tmp_path / "model.safetensors"), "base": base},
                "similarity": {"name": "global"},
                "data": {"name": "motifs", "artworks": 2, "variants": 1, "language": "zh"},
            }
        )
    )
    dataset = pipeline.dataset()
    golden = encode_golden(pipeline, dataset)
    assert torch.allclose(golden.regions.norm(dim=1), torch.ones(len(golden.regions)), atol=1e-5)
    inner = evaluate_golden(pipeline, dataset, score="inner").scores
    cosine = evaluate_golden(pipeline, dataset, score="cosine").scores
    with torch.inference_mode():
        crops = encode_golden(Pipeline(load_config({**pipeline.config.as_dict(), "encoder": base})), dataset).regions
        expected = model.eval().encode_images(crops) @ model.encode_texts(golden.golden.phrases).T
    assert torch.allclose(inner, expected, atol=1e-4)
    assert not torch.allclose(inner, cosine, atol=1e-2)
