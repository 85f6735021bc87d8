"""Settings of the faiss index."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heritage_align.plugin import ComponentConfig


class FaissIndexConfig(ComponentConfig):
    """How vectors are kept and how far a search looks; ``nprobe`` and ``ef`` change no index that is kept."""

    kind: Literal["flat", "ivf", "hnsw", "pq"] = Field(
        "ivf",
        description="flat (every vector), ivf (the nearest of nlist lists), hnsw (a graph), pq (lists of vectors that "
        "are rounded to pq_bytes each)",
    )
    nlist: int | None = Field(
        None, ge=1, description="ivf and pq: lists; by default 4 times the root of the pictures, 39 pictures a list"
    )
    nprobe: int = Field(32, ge=1, description="ivf and pq: lists that a query looks at")
    hnsw_m: int = Field(32, ge=2, description="hnsw: neighbours of a vector in the graph (M)")
    ef_construction: int = Field(80, ge=1, description="hnsw: vectors that are looked at to place a new one")
    ef: int = Field(
        128, ge=1, description="hnsw: vectors that a query keeps in sight, at least as many as are asked for"
    )
    pq_bytes: int = Field(
        64, ge=1, description="pq: bytes a picture; parts of a vector, whose dimensions it must divide"
    )
