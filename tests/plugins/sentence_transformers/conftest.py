"""Tiny models with random weights in the formats of Qwen's and ColPali's families, saved as a hub repository is laid
out, by the library itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("sentence_transformers", reason="the optional extra 'sentence-transformers' is not installed")

import transformers
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
PATCHES = {"patch_size": 4, "temporal_patch_size": 2}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
TOWER = {"depth": 2, "hidden_size": 32, "num_heads": 4, "spatial_merge_size": 2, **PATCHES}
CHAT = """
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}
{%- for part in message.content %}
{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- else %}{{- part.text }}{%- endif %}
{%- endfor %}{{- '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
""".replace("\n{%", "{%").strip()


def tokenizer() -> Any:
    """Single bytes, and the two words that a reranker answers with."""
    from tokenizers import pre_tokenizers

    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ye", "yes", "no"]
    made = transformers.Qwen2Tokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[("y", "e"), ("ye", "s"), ("n", "o")]
    )
    made.add_special_tokens({"additional_special_tokens": [*SPECIAL[1:], *VISION]})
    return made


def numbers(made: Any) -> dict[str, Any]:
    """Return the settings of a model that name tokens."""
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {key: made.convert_tokens_to_ids(token) for key, token in names.items()}


def pictures(most: int) -> Any:
    return transformers.Qwen2VLImageProcessor(merge_size=2, min_pixels=16 * 16, max_pixels=most, **PATCHES)


def shaken(model: Any) -> Any:
    """Give weights that are alike at first (of norms, biases) values of their own."""
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def save_colqwen(folder: Path, most: int = 48 * 48) -> None:
    """ColQwen2 as the transformers library has it: no file of sentence-transformers is there."""
    made = tokenizer()
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {**TEXT, "vocab_size": len(made), "rope_parameters": rope, "pad_token_id": 259}
    vision = {**TOWER, "embed_dim": 32, "mlp_ratio": 2}
    inner = transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **numbers(made))
    model = transformers.ColQwen2ForRetrieval(transformers.ColQwen2Config(vlm_config=inner, embedding_dim=128))
    shaken(model).save_pretrained(folder)
    transformers.ColQwen2Processor(image_processor=pictures(most), tokenizer=made).save_pretrained(folder)


def save_qwen3(folder: Path) -> None:
    """Qwen3-VL as the transformers library has it, on which embedding models and rerankers are built."""
    made = tokenizer()
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    text = {**TEXT, "head_dim": 8, "vocab_size": len(made), "rope_parameters": rope, "pad_token_id": 259}
    vision = {**TOWER, "intermediate_size": 48, "out_hidden_size": 32, "num_position_embeddings": 64}
    vision["deepstack_visual_indexes"] = [0]
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **numbers(made))
    shaken(transformers.Qwen3VLForConditionalGeneration(config)).save_pretrained(folder)
    video = transformers.Qwen3VLVideoProcessor(merge_size=2, **PATCHES)
    processor = transformers.Qwen3VLProcessor(
        image_processor=pictures(48 * 48), tokenizer=made, video_processor=video, chat_template=CHAT
    )
    processor.save_pretrained(folder)


def save_models(root: Path) -> None:
    """Save one model of each class of the library, and what they are built on."""
    save_colqwen(root / "colqwen")
    save_colqwen(root / "colqwen-large", most=280 * 280)
    save_qwen3(root / "qwen3")
    backbone = Transformer(str(root / "qwen3"))
    pooling = Pooling(backbone.get_embedding_dimension(), pooling_mode="lasttoken")
    prompts = {"query": "Find pictures of: ", "document": "Describe the picture."}
    whole = SentenceTransformer(modules=[backbone, pooling, Normalize()], device="cpu", prompts=prompts)
    whole.save(str(root / "embedding"))
    dense = Dense(32, 128, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
    image_token = tokenizer().convert_tokens_to_ids("<|image_pad|>")
    mask = MultiVectorMask(keep_only_token_ids=[image_token])
    late = [Transformer(str(root / "qwen3")), dense, mask, Normalize(module_input_name="token_embeddings")]
    MultiVectorEncoder(modules=late, device="cpu", prompts={"query": "Find: ", "document": ""}).save(str(root / "late"))
    head = Transformer(str(root / "qwen3"), transformer_task="any-to-any")
    yes, no = tokenizer().convert_tokens_to_ids(["yes", "no"])
    CrossEncoder(modules=[head, LogitScore(yes, no)], device="cpu").save(str(root / "reranker"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of each kind."""
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        save_models(root)
    return root


@pytest.fixture(scope="session")
def picture() -> Callable[[int, int], Image.Image]:
    """A function that makes a picture of noise of a width and a height."""

    def made(width: int, height: int) -> Image.Image:
        levels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(levels)

    return made
