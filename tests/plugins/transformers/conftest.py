"""Tiny models of the transformers library with random weights, saved as a hub repository is laid out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the optional extra 'transformers' is not installed")

from heritage_align_plugins.transformers.config import TransformersConfig  # noqa: E402
from heritage_align_plugins.transformers.encoder import TransformersEncoder  # noqa: E402

from heritage_align.protocols import BuildContext  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"蓝地团窠对鸟纹锦牡丹", "silk", "crane"]
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION = {**TOWER, "image_size": 32, "patch_size": 8}


def bert_tokenizer(**settings: Any) -> Any:
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}, **settings)


def byte_tokenizer(eos: str) -> Any:
    """A tokenizer of single bytes that ends each text with `eos`, as those of CLIP and SigLIP do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    alphabet = ["<pad>", "<unk>", "<bos>", eos, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(
        single=f"<bos> $A {eos}", special_tokens=[("<bos>", 2), (eos, 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token=eos,
        padding_side="right",  # as the files of SigLIP 2 on the hub say; where none does, its class pads on the left
    )


def chinese_clip() -> tuple[Any, Any, Any]:
    text = {**TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 20}
    config = transformers.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
    processor = transformers.ChineseCLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    return transformers.ChineseCLIPModel(config), bert_tokenizer(), processor


def clip() -> tuple[Any, Any, Any]:
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    text = {**TOWER, "vocab_size": 260, "max_position_embeddings": 16, **special}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return transformers.CLIPModel(config), byte_tokenizer("<eos>"), processor


def siglip() -> tuple[Any, Any, Any]:
    text = {**TOWER, "vocab_size": 260, "max_position_embeddings": 16}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    return transformers.SiglipModel(config), byte_tokenizer("<eos>"), processor


def siglip2() -> tuple[Any, Any, Any]:
    text = {**TOWER, "vocab_size": 260, "max_position_embeddings": 16}
    vision = {**TOWER, "patch_size": 8, "num_patches": 16}
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    return transformers.Siglip2Model(config), byte_tokenizer("<eos>"), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "chinese_clip": chinese_clip,
    "clip": clip,
    "siglip": siglip,
    "siglip2": siglip2,
}


@pytest.fixture
def other_family(tmp_path: Path) -> Callable[..., Path]:
    """Save a tiny model of a family that is not in `FAMILIES`, whose space has 24 dimensions."""

    def save(kind: str, **sizes: Any) -> Path:
        special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        text = {**TOWER, "vocab_size": 260, "max_position_embeddings": 16, **special, **sizes}
        towers = {"text_config": text, ("image_config" if kind == "Flava" else "vision_config"): VISION}
        config = getattr(transformers, f"{kind}Config")(**towers, projection_dim=24)
        processor = transformers.CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
        for part in (getattr(transformers, f"{kind}Model")(config), byte_tokenizer("<eos>"), processor):
            part.save_pretrained(tmp_path)
        return tmp_path

    return save


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, make in FAMILIES.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model, tokenizer, processor = make()
            for parameter in model.parameters():
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        for part in (model, tokenizer, processor):
            part.save_pretrained(root / name)
    return {name: root / name for name in FAMILIES}


@pytest.fixture(scope="session")
def build(folders: dict[str, Path]) -> Callable[..., TransformersEncoder]:
    def encoder(family: str, precision: str = "fp32", **settings: Any) -> TransformersEncoder:
        config = TransformersConfig(model=str(folders[family]), **settings)
        return TransformersEncoder(config, BuildContext(precision=precision))

    return encoder
