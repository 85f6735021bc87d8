"""A split as VSE++, SCAN and BFAN keep it, run through the kit; what is read of it: tests/data/test_precomputed.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heritage_align.testing import Case, check_component


def test_it_conforms(tmp_path: Path) -> None:
    np.save(tmp_path / "dev_ims.npy", np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32))
    captions = [f"caption {number} of a 莲" for number in range(15)]
    (tmp_path / "dev_caps.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    pictures = ("check_images_load", "check_loading_is_deterministic_and_thread_safe", "check_image_files")
    none = dict.fromkeys(pictures, "it has features, no pictures: what reads one is told which file is not there")
    results = check_component(Case("dataset", "precomp", {"folder": str(tmp_path), "split": "dev"}), none)
    assert {result.check for result in results if result.state == "failed"} == set(pictures)
