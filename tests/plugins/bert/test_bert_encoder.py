"""The phrase encoder against a BERT layer that is recomputed by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from heritage_align_plugins.bert.config import BertConfig
from heritage_align_plugins.bert.encoder import BertEncoder
from torch.nn.functional import gelu, layer_norm, normalize

from heritage_align.errors import CheckpointError
from heritage_align.protocols import BuildContext
from heritage_align.testing import Case, check_component

transformers = pytest.importorskip("transformers", reason="the optional extra 'transformers' is not installed")

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "blue",
    "silk",
    "crane",
    "with",
    "clouds",
    "锦",
    "牡",
    "丹",
]
PHRASES = ["blue silk", "crane", "a crane with blue clouds", "牡丹锦"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert")
    settings = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = transformers.BertModel(settings)
        for parameter in model.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(path)
    transformers.BertTokenizer(vocab={w: i for i, w in enumerate(WORDS)}).save_pretrained(path)
    return path


def build(folder: Path, precision: str = "fp32", **settings: object) -> BertEncoder:
    return BertEncoder(BertConfig(model=str(folder), **settings), BuildContext(precision=precision))


def first_layer(folder: Path, ids: list[int]) -> torch.Tensor:
    """Embeddings and the first of two layers, with the arithmetic of Devlin et al. 2019; (n_tokens, 24)."""
    w = transformers.BertModel.from_pretrained(folder).state_dict()

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(x, (24,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + w["embeddings.position_embeddings.weight"][: len(ids)], "embeddings.LayerNorm")
    layer = "encoder.layer.0"
    q, k, v = (dense(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
    heads = []
    for start in (0, 8, 16):
        part = slice(start, start + 8)
        heads.append((q[:, part] @ k[:, part].T / math.sqrt(8)).softmax(-1) @ v[:, part])
    mixed = dense(torch.cat(heads, dim=1), f"{layer}.attention.output.dense")
    x = norm(mixed + x, f"{layer}.attention.output.LayerNorm")
    wide = gelu(dense(x, f"{layer}.intermediate.dense"))
    return norm(dense(wide, f"{layer}.output.dense") + x, f"{layer}.output.LayerNorm")


def test_the_second_to_last_layer_by_hand(folder):
    ids = [2, 5, 6, 3]  # [CLS] blue silk [SEP]
    layer = first_layer(folder, ids)
    encoder = build(folder)
    assert encoder.dim == 24
    # "crane ..." makes the batch longer, so that the first phrase is padded.
    batch = encoder.encode_texts(["blue silk", "a crane with blue clouds"])
    torch.testing.assert_close(batch[0], normalize(layer.mean(0), dim=0), atol=1e-5, rtol=0)
    by_cls = build(folder, pooling="cls").encode_texts(["blue silk"])
    torch.testing.assert_close(by_cls[0], normalize(layer[0], dim=0), atol=1e-5, rtol=0)


def test_a_phrase_does_not_depend_on_its_batch(folder):
    encoder = build(folder)
    together = encoder.encode_texts(PHRASES)
    alone = torch.cat([encoder.encode_texts([phrase]) for phrase in PHRASES])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))


def test_layers_count_from_both_ends(folder):
    first = build(folder, layer=1)
    torch.testing.assert_close(first.encode_texts(PHRASES), build(folder).encode_texts(PHRASES))
    last = build(folder, layer=-1).encode_texts(PHRASES)
    assert not torch.allclose(last, first.encode_texts(PHRASES), atol=1e-2)
    with pytest.raises(ValueError, match="has hidden layers -3 to 2, got -4"):
        build(folder, layer=-4)
    assert build(folder, layer=-3).fingerprint() != build(folder).fingerprint()


def test_long_phrases_are_cut(folder):
    encoder = build(folder, context_length=6)
    a, b, c = encoder.encode_texts(["锦" * 4, "锦" * 90, "锦" * 3])
    torch.testing.assert_close(a, b)
    assert not torch.allclose(a, c, atol=1e-4)
    with pytest.raises(ValueError, match="positions for 64 tokens, got 65"):
        build(folder, context_length=65)


def test_it_has_no_image_tower(folder):
    encoder = build(folder)
    for call in (lambda: encoder.prepare(None), lambda: encoder.encode_pixels(torch.zeros(1, 3, 8, 8))):
        with pytest.raises(ValueError, match="texts only; name it as text_encoder"):
            call()


def test_bad_texts_are_named(folder):
    encoder = build(folder)
    with pytest.raises(ValueError, match=r"texts\[1\]: expected a text that is not empty, got ''"):
        encoder.encode_texts(["silk", ""])
    assert encoder.encode_texts([]).shape == (0, 24)


def test_half_precision_returns_fp32_unit_rows(folder):
    half = build(folder, "bf16").encode_texts(PHRASES)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.norm(dim=1), torch.ones(4))
    assert (half * build(folder).encode_texts(PHRASES)).sum(1).min() > 0.99


def test_a_file_without_pooler_loads_and_one_without_a_layer_does_not(folder, tmp_path):
    model = transformers.BertModel.from_pretrained(folder)
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    bare = transformers.BertModel(model.config, add_pooling_layer=False)
    bare.load_state_dict(model.state_dict(), strict=False)
    for name in ("bare", "cut"):
        bare.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    same = build(tmp_path / "bare").encode_texts(PHRASES)
    torch.testing.assert_close(same, build(folder).encode_texts(PHRASES))
    model.config.num_hidden_layers = 3
    model.config.save_pretrained(tmp_path / "cut")
    with pytest.raises(CheckpointError, match=r"16 weights are missing \(encoder\.layer\.2"):
        build(tmp_path / "cut")


def test_facts_and_a_missing_folder(folder, tmp_path):
    assert BertConfig(model=str(folder)).facts().dim == 24
    missing = BertConfig(model=str(tmp_path / "none"))
    assert missing.facts().files == {"model": tmp_path / "none" / "config.json"}
    with pytest.raises(CheckpointError, match="none"):
        build(tmp_path / "none")
    assert BertConfig(model="bert-base-uncased").facts().dim is None


def test_conformance(folder):
    results = check_component(Case("encoder", "bert", {"model": str(folder)}))
    assert sum(r.state == "passed" for r in results) >= 8


@pytest.mark.parametrize("files", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_model_without_its_tokenizer_is_refused(folder: Path, tmp_path: Path, files: list[str]) -> None:
    """The library makes up one that knows no word, with which all phrases are alike."""
    copy = Path(shutil.copytree(folder, tmp_path / "bert"))
    for file in files:
        (copy / file).unlink()
    with pytest.raises(CheckpointError, match=r"bert: there is no tokenizer \(tokenizer.json\): fetch"):
        build(copy)
    (copy / "vocab.txt").write_text("\n".join(WORDS[:5]), encoding="utf-8")
    with pytest.raises(CheckpointError, match="its tokenizer knows no word"):
        build(copy)
    (copy / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    assert torch.equal(build(copy).encode_texts(PHRASES), build(folder).encode_texts(PHRASES))


@pytest.mark.parametrize(("kind", "before"), [("Roberta", 1), ("MPNet", 1), ("Bert", None)])
def test_positions_that_begin_behind_the_padding_s_number(tmp_path: Path, kind: str, before: int | None) -> None:
    """Of 20 rows RoBERTa and its like use those from number 2 on."""
    numbers = {"vocab_size": len(WORDS), "max_position_embeddings": 20, "pad_token_id": before or 0}
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes, **numbers)).save_pretrained(
        tmp_path
    )
    transformers.BertTokenizer(vocab={w: i for i, w in enumerate(WORDS)}).save_pretrained(tmp_path)
    most = 20 if before is None else 18
    assert build(tmp_path, context_length=most).encode_texts(["crane " * 40]).isfinite().all()
    with pytest.raises(ValueError, match=f"has positions for {most} tokens, got {most + 1}"):
        build(tmp_path, context_length=most + 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hidden_size": "24"}, "cannot load it: Validation error for field 'hidden_size': TypeError"),
        ({"layer_norm_eps": float("nan")}, "makes NaN or infinite numbers of a text"),
        ({"vocab_size": 5}, r"word_embeddings.weight has shape \(13, 24\), and by the model's settings \(5, 24\)"),
    ],
)
def test_odd_settings_are_one_line(folder: Path, tmp_path: Path, settings: dict[str, object], says: str) -> None:
    odd = Path(shutil.copytree(folder, tmp_path / "odd"))
    whole = json.loads((odd / "config.json").read_text(encoding="utf-8"))
    (odd / "config.json").write_text(json.dumps({**whole, **settings}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=says):
        build(odd)


def test_a_model_without_positions_is_no_bert(tmp_path: Path) -> None:
    sizes = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3}
    transformers.T5Model(transformers.T5Config(vocab_size=len(WORDS), **sizes)).save_pretrained(tmp_path)
    transformers.BertTokenizer(vocab={w: i for i, w in enumerate(WORDS)}).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="a 't5' model is no BERT-like text encoder"):
        build(tmp_path)
