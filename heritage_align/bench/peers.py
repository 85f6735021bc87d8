"""What the kernels are measured against: the published structure, written plainly, and other people's libraries."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from heritage_align.ops import Ragged

EPS = 1e-8


def attend(queries: Tensor, contexts: Tensor, temperature: float, focal: str | None) -> Tensor:
    """Cosines of queries ``(n, q, dim)`` with what they attend to in ``(n, c, dim)``: builds the attended vectors."""
    cosines = leaky_relu(torch.bmm(contexts, queries.transpose(1, 2)), 0.1)
    cosines = cosines / (cosines.square().sum(2, keepdim=True).sqrt() + EPS)
    attention = (temperature * cosines.transpose(1, 2)).softmax(dim=2)
    if focal is not None:
        kept = attention * (attention * attention.shape[2] > attention.sum(2, keepdim=True))
        total = kept.sum(2, keepdim=True)
        attention = torch.where(total > 0, kept / total.clamp_min(EPS), attention)
    attended = torch.bmm(attention, contexts)
    lengths = (attended.norm(dim=2) * queries.norm(dim=2)).clamp_min(EPS)
    return (attended * queries).sum(2) / lengths


def scan_per_caption(images: Tensor, texts: Ragged, temperature: float = 9.0, lse_scale: float = 6.0) -> Tensor:
    """SCAN t2i as it is published: one caption at a time against all images ``(n_images, m, dim)``."""
    scores = []
    for words in texts:
        repeated = words.to(images.dtype).unsqueeze(0).repeat(len(images), 1, 1)
        cosines = attend(repeated, images, temperature, None).float()
        scores.append((lse_scale * cosines).exp().sum(1).log() / lse_scale)
    return torch.stack(scores, dim=1)


def bfan_per_caption(images: Tensor, texts: Ragged, temperature: float = 20.0) -> Tensor:
    """BFAN (equal) as it is published: both directions, one caption at a time."""
    scores = []
    for words in texts:
        repeated = words.to(images.dtype).unsqueeze(0).repeat(len(images), 1, 1)
        by_word = attend(repeated, images, temperature, "equal")
        by_region = attend(images, repeated, temperature, "equal")
        scores.append(by_word.float().mean(1) + by_region.float().mean(1))
    return torch.stack(scores, dim=1)


def maxsim_padded(queries: Tensor, documents: Tensor) -> Tensor:
    """MaxSim of ``(n_queries, q, dim)`` and ``(n_documents, d, dim)`` by materialising all similarities."""
    return torch.einsum("nqd,kcd->knqc", queries, documents).amax(3).sum(2)


def maxsim_libraries(query: Tensor, documents: Tensor) -> dict[str, Callable[[], object]]:
    """Libraries that are installed here, on one query ``(q, dim)`` and ``(n_documents, d, dim)``, as contenders."""
    found: dict[str, Callable[[], object]] = {}
    on_gpu = documents.device.type == "cuda"
    try:
        colbert_scores = import_module("pylate.scores").colbert_scores
        found["PyLate"] = lambda: colbert_scores(query[None], documents)
    except ImportError:
        pass
    try:
        maxsim = import_module("sentence_transformers.util").maxsim
        found["sentence-transformers"] = lambda: maxsim(query[None], documents)
    except (ImportError, AttributeError):
        pass
    if not on_gpu:
        try:
            scores = import_module("maxsim_cpu").maxsim_scores
            query_array, document_array = query.float().numpy(), documents.float().numpy()
            found["maxsim-cpu"] = lambda: scores(query_array, document_array)
        except ImportError:
            pass
        return found
    try:
        kernel = import_module("late_interaction_kernels").maxsim
        found["late-interaction-kernels"] = lambda: kernel(query[None], documents)
    except (ImportError, AttributeError):
        pass
    try:
        flash = import_module("flash_maxsim").flash_maxsim
        found["flash-maxsim"] = lambda: flash(query, documents)
    except (ImportError, AttributeError):
        pass
    return found
