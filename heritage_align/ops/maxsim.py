"""Late interaction (MaxSim): every row of a query takes its best row of a document."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks, inputs, reference
from .backend import pick, run
from .candidates import ask_for_most, check_candidates, of_candidates
from .planner import text_bins
from .ragged import Ragged


def maxsim_score(
    queries: Ragged,
    documents: Ragged,
    *,
    candidates: Tensor | None = None,
    backend: str = "auto",
    check_finite: bool = False,
) -> Tensor:
    """``sum_q max_d <q, d>`` over the rows of a query and of a document (ColBERT, Khattab and Zaharia 2020, eq. 3).

    Documents stand where images stand in the other scores: rows of the result, ids of the candidates.

    Args:
        queries: rows ``(total_query_rows, dim)``.
        documents: rows ``(total_document_rows, dim)``.
        candidates: ``(n_queries, k)`` document ids, -1 for none; all pairs where absent. See
            :func:`focal_attention_score` on when they are looked at.
        backend: "auto", "reference", "cpu" or "cuda".
        check_finite: raise where an input holds NaN or infinity.

    Returns:
        float32 ``(n_documents, n_queries)``, or ``(n_queries, k)`` with candidates. A query or document without rows,
        and a candidate -1, score -inf.

    Raises:
        ValueError: if an argument does not fit; the message names it.
    """
    inputs.ragged("queries", queries)
    inputs.ragged("documents", documents)
    checks.refuse_vmap("maxsim_score", queries.values, documents.values, candidates)
    inputs.same_space("queries", queries, "documents", documents)
    device = documents.device
    candidates = check_candidates(candidates, len(queries), len(documents), device, check_finite=check_finite)
    if check_finite:
        checks.finite("queries.values", queries.values)
        checks.finite("documents.values", documents.values)
    chosen = pick(backend, device, (queries.dtype, documents.dtype))
    if chosen == "reference":
        return reference.maxsim_score(queries, documents, candidates=candidates).float()
    on_gpu = chosen == "cuda"
    most = on_gpu and candidates is not None and ask_for_most(candidates, queries, documents)
    listed = None if most else candidates
    bins = text_bins(queries) if on_gpu and listed is None else (None, None)
    scores = run(
        torch.ops.heritage_align.maxsim.default,
        (queries.values, documents.values),
        inputs.rows(queries.values),
        queries.scales,
        queries.offsets,
        inputs.rows(documents.values),
        documents.scales,
        documents.offsets,
        listed,
        *bins,
        queries.max_length if on_gpu else -1,
        documents.max_length if on_gpu else -1,
    )
    return of_candidates(scores, candidates) if most and candidates is not None else scores
