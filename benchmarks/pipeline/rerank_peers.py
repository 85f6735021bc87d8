"""Reranking by MaxSim as other libraries do it: the documents' vectors are gathered, then scored."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor


def maxsim_peers(query: Tensor, documents: Tensor, rows: Tensor) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """Return calls that score `rows` of `documents`, and the libraries that are not installed.

    Args:
        query: ``(q, dim)``.
        documents: ``(n, d, dim)`` in memory, on the query's device; what a library keeps of them is its own matter.
        rows: ``(k,)`` candidates.
    """
    here = rows.to(documents.device)

    def plain() -> Tensor:
        return torch.einsum("qd,kcd->kqc", query, documents[here]).amax(2).float().sum(1)

    def sentence_transformers() -> Tensor:
        return import_module("sentence_transformers.util").maxsim(query[None], documents[here])

    # One array a document, as PyLate's encoder gives them and its users keep them.
    kept = list(documents.float()) if query.device.type == "cpu" else list(documents)
    asked = kept[0].dtype
    names = rows.tolist()

    def pylate() -> Tensor:
        ranked = import_module("pylate.rank").rerank(
            documents_ids=[list(range(len(names)))],
            queries_embeddings=[query.to(asked)],
            documents_embeddings=[[kept[row] for row in names]],
        )
        scores = torch.empty(len(names))
        for answer in ranked[0]:
            scores[answer["id"]] = answer["score"]
        return scores

    calls: dict[str, Callable[[], Any]] = {"torch, gather and score": plain}
    missing = []
    for name, module, call in (
        ("sentence-transformers", "sentence_transformers.util", sentence_transformers),
        ("PyLate", "pylate.rank", pylate),
    ):
        try:
            import_module(module)
        except (ImportError, OSError):
            missing.append(name)
        else:
            calls[name] = call
    return calls, missing
