"""Checks of first-stage indexes."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align.protocols import Index
from heritage_align.testing import samples
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect, expect_close

ROWS, QUERIES, K = 50, 5, 7
CUTS = ((ROWS,), (1, 20, 29), (25, 0, 25))


def _blocks(matrix: Tensor, lengths: tuple[int, ...]) -> list[Tensor]:
    return list(matrix.split(list(lengths)))


def _vectors() -> tuple[Tensor, Tensor]:
    return samples.unit_rows(ROWS, seed=11), samples.unit_rows(QUERIES, seed=12)


@check("index")
def check_exact_answers(case: Case) -> None:
    """Against all dot products; an approximate index expects this one to fail and says by how much in its
    docs."""
    matrix, queries = _vectors()
    rows, scores = case.build().search([matrix], queries, K)
    expect(
        rows.shape == (QUERIES, K),
        f"search() gave rows of shape {tuple(rows.shape)}, expected {(QUERIES, K)}",
    )
    expect(
        scores.shape == (QUERIES, K),
        f"search() gave scores of shape {tuple(scores.shape)}, expected {(QUERIES, K)}",
    )
    wanted, order = (queries @ matrix.T).topk(K, dim=1)
    expect_close(scores, wanted, "scores of search(), against all dot products")
    expect(torch.equal(rows, order), f"rows of search() are {rows.tolist()}, expected {order.tolist()}")


@check("index")
def check_answer_types(case: Case) -> None:
    """Row numbers past 2^31 wrap around in int32, and fp16 scores tie."""
    matrix, queries = _vectors()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        rows, scores = case.build().search([matrix.to(dtype)], queries.to(dtype), K)
        expect(rows.dtype == torch.int64, f"rows of {dtype} vectors are {rows.dtype}, expected torch.int64")
        expect(
            scores.dtype == torch.float32,
            f"scores of {dtype} vectors are {scores.dtype}, expected torch.float32",
        )


@check("index")
def check_best_first(case: Case) -> None:
    """Best first, every row once, and the score beside a row is that row's."""
    matrix, queries = _vectors()
    rows, scores = case.build().search([matrix], queries, K)
    expect(bool((scores[:, 1:] <= scores[:, :-1]).all()), f"scores do not descend: {scores.tolist()}")
    twice = [q for q in range(QUERIES) if len(set(rows[q].tolist())) != K]
    expect(not twice, f"queries {twice} have a row more than once")
    expect_close(scores, (queries @ matrix.T).gather(1, rows), "scores, against the dot products of their rows")


@check("index")
def check_blocks_are_one_matrix(case: Case) -> None:
    """Shards are parts of one matrix: their cut, and an empty one, must not change an answer."""
    matrix, queries = _vectors()
    built: Index = case.build()
    wanted_rows, wanted = built.search([matrix], queries, K)
    for lengths in CUTS[1:]:
        rows, scores = built.search(_blocks(matrix, lengths), queries, K)
        expect_close(scores, wanted, f"scores in blocks of {lengths}, against one block")
        expect(torch.equal(rows, wanted_rows), f"rows in blocks of {lengths} are not those of one block")


@check("index")
def check_small_collections(case: Case) -> None:
    """A collection of fewer images than candidates asked for gives them all, and no row of padding."""
    matrix, queries = _vectors()
    rows, scores = case.build().search([matrix[:3]], queries, K)
    shape = tuple(rows.shape)
    expect(rows.shape == scores.shape == (QUERIES, 3), f"3 rows, k = {K} give shape {shape}, expected {(QUERIES, 3)}")
    complete = bool((rows.sort(dim=1).values == torch.arange(3)).all())
    expect(complete, f"3 rows, k = {K} give rows {rows.tolist()}, expected each once")


@check("index")
def check_ties(case: Case) -> None:
    """Equal scores go by ascending row, in every cut into blocks: else recall changes from run to run."""
    # Whole numbers: their dot products are exact however a product is cut, so what is equal stays equal.
    draw = torch.Generator().manual_seed(13)
    matrix = torch.randint(-2, 3, (5, samples.DIM), generator=draw).float().repeat_interleave(10, dim=0)
    queries = torch.randint(-2, 3, (QUERIES, samples.DIM), generator=draw).float()
    ranked = (queries @ matrix.T).sort(dim=1, descending=True, stable=True).indices[:, :15]
    for lengths in CUTS:
        rows, _ = case.build().search(_blocks(matrix, lengths), queries, 15)
        for query in (rows != ranked).any(dim=1).nonzero().flatten().tolist():
            found, wanted = rows[query].tolist(), ranked[query].tolist()
            raise AssertionError(f"ties in blocks of {lengths}: rows {found}, expected {wanted}")


@check("index")
def check_negative_scores(case: Case) -> None:
    """Where every score is negative, a row of padding wins."""
    towards = samples.unit_rows(1, seed=3)
    matrix = torch.nn.functional.normalize(samples.unit_rows(ROWS, seed=11) * 0.2 - towards, dim=-1)
    rows, scores = case.build().search(_blocks(matrix, CUTS[1]), towards, K)
    wanted, order = (towards @ matrix.T).topk(K, dim=1)
    expect_close(scores, wanted, "all-negative scores")
    expect(torch.equal(rows, order), f"all-negative rows are {rows.tolist()}, expected {order.tolist()}")


@check("index")
def check_queries_do_not_depend_on_each_other(case: Case) -> None:
    """A query alone gets the answers that it gets in a batch, and no queries get none."""
    matrix, queries = _vectors()
    built: Index = case.build()
    wanted_rows, wanted = built.search([matrix], queries, K)
    for q in range(QUERIES):
        rows, scores = built.search([matrix], queries[q : q + 1], K)
        expect_close(scores, wanted[q : q + 1], f"scores of query {q} alone")
        expect(torch.equal(rows, wanted_rows[q : q + 1]), f"rows of query {q} alone are not those in the batch")
    rows, scores = built.search([matrix], queries[:0], K)
    expect(
        rows.shape == scores.shape == (0, K),
        f"no queries give rows of shape {tuple(rows.shape)}, expected {(0, K)}",
    )
