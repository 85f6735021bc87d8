"""The motif collection as a component of a pipeline."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from heritage_align.data.motifs import Motifs
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext
from heritage_align.testing import parametrize_with_checks


@parametrize_with_checks([("dataset", "motifs", {"artworks": 3, "size": 64, "noise": 0.3})])
def test_conformance(check: Callable[[], None]) -> None:
    check()


def _built(**settings: object) -> Motifs:
    registry = default_registry()
    spec = registry.spec("dataset", "motifs")
    config = registry.config_model(spec).model_validate(settings)
    data = registry.target(spec)(config, BuildContext(seed=99))
    assert isinstance(data, Motifs)
    return data


def test_every_setting_reaches_the_collection() -> None:
    data = _built(split="val", artworks=3, variants=2, size=64, language="en", domain="specialist", noise=0.2, seed=5)
    same = Motifs("val", artworks=3, variants=2, size=64, languages=("en",), domain="specialist", noise=0.2, seed=5)
    assert data.name == "motifs-val"
    assert data.texts == same.texts
    assert data.golden == same.golden
    assert data.load_image("val-00002-1").tobytes() == same.load_image("val-00002-1").tobytes()


def test_the_seed_of_a_run_does_not_change_the_collection() -> None:
    """Two runs with other crop seeds must be of the same pictures, or their paired test is void."""
    assert _built(artworks=2).texts == Motifs(artworks=2).texts


def test_the_default_has_about_five_hundred_pictures_in_two_languages() -> None:
    data = _built()
    assert len(data.image_ids) == 500
    assert [sum(t.language == language for t in data.texts) for language in ("zh", "en")] == [500, 500]
    assert {t.language for t in _built(artworks=1, language="zh").texts} == {"zh"}


def test_settings_are_strict_and_described() -> None:
    registry = default_registry()
    model = registry.config_model(registry.spec("dataset", "motifs"))
    assert all(field.description for field in model.model_fields.values())
    for wrong in ({"split": "dev"}, {"noise": 2}, {"artworks": 0}, {"colour": "red"}, {"language": "fr"}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            model.model_validate(wrong)
