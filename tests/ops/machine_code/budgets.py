"""What each kernel may use, and what its machine code must hold. One line a kernel: this is the file to edit.

``test_machine_code.py`` names every kernel that has no line, every line that has no kernel, and every number that is
exceeded, with the number found. Write a new number here when it was meant, with the reason where it is a spill.
A name is as ``ptxas.shortened`` makes it; ``*`` stands for any arguments, and the first line that fits holds.
The numbers are those of one compiler; with another the tests that use them are skipped.
"""

from __future__ import annotations

from typing import NamedTuple

COMPILER = "release 13.0"  # as nvcc --version says


class Use(NamedTuple):
    """Registers a thread, which the hardware gives in eights; bytes of spill stores, of spill loads, of stack."""

    registers: int
    stores: int = 0
    loads: int = 0
    stack: int = 0


EMPTY = Use(8)  # a kernel of sm_90a alone has no body on sm_80


class Budget(NamedTuple):
    """A line: the most on sm_80 and its successors and on sm_90a, why it spills. Static shared memory is always 0."""

    kernel: str
    sm_80: Use
    sm_90a: Use
    why: str = ""


BUDGETS = [
    # Two blocks of 128 threads a multiprocessor: 255 registers. A warp's product has 144 accumulators, and what holds
    # the product's addresses beside them spills; float32 has eight floats of either side besides.
    Budget(
        "focal_tile_kernel<FloatProduct>",
        Use(255, 488, 596, 240),
        Use(255, 512, 632, 248),
        "144 accumulators and 68 operands of the product",
    ),
    Budget(
        "focal_tile_kernel<*>",
        Use(255, 340, 188, 144),
        Use(255, 344, 200, 128),
        "addresses beside 144 accumulators, at the edges of the product's loop; its epilogue spills 20 bytes at most",
    ),
    # The stack of 16 bytes holds what the epilogue indexes.
    Budget(
        "focal_attention_kernel<FloatProduct, *>",
        Use(255, 500, 624, 248),
        Use(255, 520, 672, 264),
        "144 accumulators and 68 operands of the product",
    ),
    Budget(
        "focal_attention_kernel<*>",
        Use(255, 40, 56, 32),
        Use(255, 28, 52, 32),
        "addresses beside 144 accumulators",
    ),
    Budget(
        "pooled_kernel<FloatProduct>",
        Use(255, 480, 620, 232),
        Use(255, 488, 660, 240),
        "144 accumulators and 68 operands of the product",
    ),
    Budget(
        "pooled_kernel<*>",
        Use(255, 160, 112, 48),
        Use(255, 96, 80, 32),
        "addresses beside 144 accumulators",
    ),
    # 512 threads: 128 registers, of which the accumulators take 92. The scoring warps spill, the product does not.
    Budget("focal_kernel", EMPTY, Use(128, 124, 304, 72), "the scoring warps have 128 registers, as all have"),
    Budget("focal_pairs_kernel<*, 4, *>", EMPTY, Use(168)),
    Budget("focal_pairs_kernel<*, 2, *>", EMPTY, Use(128)),
    # 384 threads at the launch; setmaxnreg redistributes these 168.
    Budget("pooled_stream_kernel<i8, *>", EMPTY, Use(168, 8, 12, 8), "the number of its tile, once a range"),
    Budget("pooled_stream_kernel<*>", EMPTY, Use(168)),
    Budget("rerank_pair_kernel<i8, *>", Use(96), Use(96)),
    Budget("rerank_pair_kernel<*>", Use(80), Use(80)),
    Budget("rerank_image_kernel<*>", Use(128), Use(128, 12, 28, 8), "outside its loops of products"),
    Budget("plain_rerank_kernel<*>", Use(128), Use(128)),
    Budget(
        "fold_rows_kernel<i8, 4>",
        Use(240),
        Use(256, 132, 128, 120),
        "in its loop over patches: 64 elements a lane, twice",
    ),
    Budget("fold_rows_kernel<i8, 2>", Use(128), Use(248)),
    Budget("fold_rows_kernel<i8, 1>", Use(88), Use(128)),
    Budget("fold_rows_kernel<*, 4>", Use(152), Use(184)),
    Budget("fold_rows_kernel<*, 2>", Use(96), Use(128, 12, 8, 8), "a register, in its loop over patches"),
    Budget("fold_rows_kernel<*, 1>", Use(64), Use(96)),
    Budget("fold_patches_kernel", Use(32, 8, 16, 8), Use(40), "two registers, outside its loops"),
    Budget("triangular_factor_kernel", Use(64), Use(64)),
    Budget("scan_pairs_kernel", Use(64), Use(64, 8, 4, 8), "a register; one block of 1024 threads"),
    Budget("count_pairs_kernel", Use(8), Use(8)),
    Budget("place_pairs_kernel", Use(16), Use(16)),
    Budget("pack_words_kernel<*>", Use(48), Use(48)),
    Budget("pack_blocks_kernel", Use(32), Use(32)),
    Budget("prepare_factors_kernel", Use(40), Use(32)),
    Budget("list_images_kernel", Use(40), Use(40)),
    Budget("add_parts_kernel", Use(32), Use(32)),
    Budget("widen_rows_kernel", Use(32), Use(32)),
    Budget("fill_scores_kernel", Use(32), Use(32)),
    # The gradient.
    Budget("pair_gradient_kernel", Use(128, stack=16), Use(128, 20, 28, 32), "outside its loops"),
    Budget("listed_slopes_kernel", Use(24), Use(24)),
    Budget("squares_kernel<*>", Use(48), Use(64)),
    Budget("spread_kernel<*>", Use(96, 12, 12, 8), Use(96), "three registers, on sm_80"),
    Budget("row_lengths_kernel", Use(48), Use(48)),
    Budget("convert_rows_kernel", Use(24), Use(32)),
]


class Code(NamedTuple):
    """What a kernel on tensor cores is made of.

    ``products``: the names of all its tensor instructions. ``run``: wgmma that follow one another at least, with no
    wait and no fence between. ``loads``: reads of 16 bytes of device memory in each innermost loop of products, -1
    where that is left open. ``copies``: copy instructions that it must have. ``local``: reads and writes of local
    memory in such a loop at most; none in a loop of wgmma.
    """

    kernel: str
    architectures: tuple[str, ...]
    products: set[str]
    run: int = 0
    loads: int = -1
    copies: tuple[str, ...] = ()
    local: int = 0


BOTH, HOPPER = ("sm_80", "sm_90a"), ("sm_90a",)
HALF, BRAIN, BYTES = "HMMA.16816.F32", "HMMA.16816.F32.BF16", "IMMA.16832.S8.S8"
FACTOR = {HALF, "HMMA.1688.F32"}  # |R e|: float16, whatever the storage
LOCAL = 24

CODE = [
    *(
        Code(f"{kernel}<{product}*>", BOTH, instructions | others, copies=("LDGSTS",), local=local)
        # `local`: addresses that come back from local memory in a loop of products.
        for kernel, others, local in [
            ("focal_tile_kernel", FACTOR, LOCAL),
            ("focal_attention_kernel", set(), LOCAL),
            ("pooled_kernel", set(), LOCAL),
        ]
        for product, instructions in [
            ("HalfProduct", {HALF}),
            ("BrainProduct", {BRAIN}),
            ("MixedProduct", {HALF}),
            ("Int8Product", {BYTES}),
            ("FloatProduct", set()),
        ]
    ),
    # A chunk of 64 elements is four products. `local`: the spills of the scoring warps, see above.
    Code(
        "focal_kernel",
        HOPPER,
        {"HGMMA.64x184x16.F32", "HGMMA.64x184x16.F32.BF16", *FACTOR},
        4,
        copies=("UTMALDG.2D",),
        local=51,
    ),
    # 4 chunks ahead of 2 fragments of words, or 3 of 4.
    Code("focal_pairs_kernel<bf16, 2, *>", HOPPER, {BRAIN}, loads=8, copies=("UBLKCP",)),
    Code("focal_pairs_kernel<bf16, 4, *>", HOPPER, {BRAIN}, loads=12, copies=("UBLKCP",)),
    Code("focal_pairs_kernel<*, 2, *>", HOPPER, {HALF}, loads=8, copies=("UBLKCP",)),
    Code("focal_pairs_kernel<*, 4, *>", HOPPER, {HALF}, loads=12, copies=("UBLKCP",)),
    Code("pooled_stream_kernel<f16, *>", HOPPER, {"HGMMA.64x128x16.F32"}, 4, copies=("UTMALDG.2D",)),
    Code("pooled_stream_kernel<bf16, *>", HOPPER, {"HGMMA.64x128x16.F32.BF16"}, 4, copies=("UTMALDG.2D",)),
    # Rows come as int8 and are multiplied as float16; scales come by words.
    Code("pooled_stream_kernel<i8, *>", HOPPER, {"HGMMA.64x128x16.F32"}, 4, copies=("UTMALDG.2D", "LDGSTS")),
    # Eight loads of 16 bytes under way in every lane.
    Code("rerank_*_kernel<bf16, *>", BOTH, {BRAIN}, loads=8),
    Code("rerank_*_kernel<*>", BOTH, {HALF}, loads=8),
]
