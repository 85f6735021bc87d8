"""What the kernels are measured against: the published structure, written plainly, and other people's libraries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu
from torch.nn.utils.rnn import pad_sequence

from heritage_align.ops import Ragged

EPS = 1e-8
CAPTURED = ("late-interaction-kernels", "flash-maxsim")  # libraries that work in a CUDA graph: they wait for nothing


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


def padded_words(texts: Ragged) -> tuple[Tensor, Tensor]:
    """Words ``(n_texts, longest, dim)`` padded with zeros, and the mask ``(n_texts, longest)`` of true words."""
    longest = torch.arange(texts.max_length, device=texts.device)
    return pad_sequence(list(texts), batch_first=True), longest < texts.lengths[:, None]


def scan_padded(
    images: Tensor, words: Tensor, mask: Tensor, temperature: float = 9.0, lse_scale: float = 6.0
) -> Tensor:
    """SCAN t2i of all pairs at once, for torch.compile: ``|a^T V|^2 = a^T (V V^T) a``, no attended vectors.

    Args:
        images: ``(n_images, m, dim)``.
        words: ``(n_texts, longest, dim)`` and their ``mask``, from :func:`padded_words`.
        mask: see ``words``.
        temperature: of the attention.
        lse_scale: of the aggregation.
    """
    cosines = torch.einsum("nmd,tld->ntlm", images, words).float()
    rectified = leaky_relu(cosines, 0.1) * mask[:, :, None]
    lengths = rectified.square().sum(2, keepdim=True).sqrt() + EPS
    attention = (temperature * rectified / lengths).softmax(dim=3)
    gram = images @ images.transpose(1, 2)
    through = torch.einsum("ntlm,nmk->ntlk", attention.to(images.dtype), gram).float()
    norms = (through * attention).sum(3).clamp_min(EPS).sqrt() * words.float().norm(dim=2)
    relevance = (attention * cosines).sum(3) / norms.clamp_min(EPS)
    return ((lse_scale * relevance).exp() * mask).sum(2).log() / lse_scale


def patch_softmax_padded(queries: Tensor, patches: Tensor, temperature: float = 0.01) -> Tensor:
    """Patch-weighted softmax of ``(n_queries, dim)`` and ``(n_images, m, dim)``, for torch.compile."""
    cosines = torch.einsum("nmd,qd->nmq", patches, queries).float()
    return ((cosines / temperature).softmax(dim=1) * cosines).sum(1)


def maxsim_padded(queries: Tensor, documents: Tensor) -> Tensor:
    """MaxSim ``(n_queries, n_documents)`` of ``(n_queries, q, dim)`` and ``(n_documents, d, dim)``, materialised."""
    return torch.einsum("nqd,kcd->nkqc", queries, documents).amax(3).float().sum(2)


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.compile`` for one shape; compiles at the first call."""
    return torch.compile(function, dynamic=False, fullgraph=True)


def maxsim_libraries(queries: Tensor, documents: Tensor) -> tuple[dict[str, Callable[[], Any]], tuple[str, ...]]:
    """MaxSim of ``(n_queries, q, dim)`` and ``(n_documents, d, dim)`` by the libraries that are installed here.

    Returns:
        Calls by the library's name, whose results reshape to ``(n_queries, n_documents)``, and the names of those that
        are not installed.
    """
    one = len(queries) == 1
    calls: dict[str, tuple[str, str, tuple[Any, ...]]] = {
        "PyLate": ("pylate.scores", "colbert_scores", (queries, documents)),
        "sentence-transformers": ("sentence_transformers.util", "maxsim", (queries, documents)),
    }
    if documents.device.type == "cuda":
        flash = ("flash_maxsim", (queries[0], documents)) if one else ("flash_maxsim_batched", (queries, documents))
        calls["late-interaction-kernels"] = ("late_interaction_kernels", "maxsim", (queries, documents))
        calls["flash-maxsim"] = ("flash_maxsim", *flash)
    elif one:
        calls["maxsim-cpu"] = ("maxsim_cpu", "maxsim_scores", (queries[0].float().numpy(), documents.float().numpy()))
    found: dict[str, Callable[[], Any]] = {}
    missing = []
    for name, (module, function, inputs) in calls.items():
        try:
            found[name] = partial(getattr(import_module(module), function), *inputs)
        except (ImportError, AttributeError, OSError):
            missing.append(name)
    return found, tuple(missing)
