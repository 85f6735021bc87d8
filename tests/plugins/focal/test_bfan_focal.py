"""The focal filter sets the attention and touches no region."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from heritage_align_plugins.focal import heritage_align_components
from heritage_align_plugins.focal.config import BfanFocalConfig
from heritage_align_plugins.focal.filter import BfanFocal
from PIL import Image
from pydantic import ValidationError

from heritage_align.protocols import BuildContext, Filter
from heritage_align.testing import parametrize_with_checks
from heritage_align.types import Regions


@pytest.mark.parametrize("mode", ["equal", "prob", "sheng"])
def test_attention_is_handed_on(mode: str) -> None:
    step = BfanFocal(BfanFocalConfig.model_validate({"mode": mode}), BuildContext())
    assert isinstance(step, Filter)
    assert step.attention == {"focal": mode}
    regions = Regions(np.array([[0, 0, 4, 4]], dtype=np.float32), keep=np.array([True]))
    assert step.apply([Image.new("RGB", (4, 4))], [regions]) == [regions]


def test_the_spec_says_attention() -> None:
    (spec,) = heritage_align_components()
    assert (spec.kind, spec.name, spec.outputs) == ("filter", "bfan_focal", ("attention",))


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ValidationError):
        BfanFocalConfig.model_validate({"mode": "sqrt"})


@parametrize_with_checks([("filter", "bfan_focal")])
def test_conformance(check: Callable[[], None]) -> None:
    check()
