"""What made features: digests that tell stores and caches apart, and the setting in which two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from heritage_align.config import Component, Config
from heritage_align.document import set_at
from heritage_align.planning import gives
from heritage_align.protocols import Encoder, FeatureReader

if TYPE_CHECKING:
    from heritage_align.front_end import FrontEnd
    from heritage_align.pipeline import Pipeline

DEFAULTS = "defaults"
"""Key of an identity: the places in its settings that have their default value."""


def same_but_for_new_settings(have: Mapping[str, str], want: Mapping[str, str]) -> bool:
    """Say whether a store's settings are those of a configuration but for settings that it knows nothing of.

    A version may add a setting, whose default is what was done before. So a store made before that is the same as one
    of the default, and different from any other value.

    Args:
        have: identity of the store (`identity_of`).
        want: identity of the configuration's pipeline.
    """
    try:
        there, here = json.loads(have["settings"]), json.loads(want["settings"])
        defaults = json.loads(want[DEFAULTS])
        known = {place for place, _ in _leaves(there)}
        return all(
            place not in known and any(place == key or place.startswith(f"{key}.") for key in defaults)
            for place, _, _ in differences(there, here)
        )
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):  # made by something that says none
        return False


def digest_of(parts: Mapping[str, Any]) -> str:
    """Return the sha256 of a JSON-ready mapping, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def shaping_settings(pipeline: Pipeline | FrontEnd) -> dict[str, Any]:
    """Return every setting that shapes the features of images before any score: encoder, regions, mask, seed.

    Settings of the encoder that shape texts alone (`Facts.text_settings`) are not among them.
    """
    config, proposer = pipeline.config, pipeline.proposer
    return {
        "encoder": _weights_and_settings(pipeline.encoder, config.encoder, texts=False),
        "proposer": config.proposer.as_dict() if config.proposer else None,
        "read": proposer.fingerprint() if isinstance(proposer, FeatureReader) else None,
        "filters": [component.as_dict() for component in config.filters if "keep" in gives(component)],
        "seed": config.runtime.seed,
    }


def identity_of(pipeline: Pipeline | FrontEnd, more: Mapping[str, Any]) -> dict[str, str]:
    """Return what a store keeps of what made it (see `Pipeline.identity`); `more` shapes its features as well."""
    settings = {**shaping_settings(pipeline), **more}
    return {
        "encoder": pipeline.encoder.fingerprint(),
        "image_config": digest_of(settings),
        "settings": json.dumps(settings, ensure_ascii=False, sort_keys=True),
        DEFAULTS: json.dumps(sorted(_defaults(pipeline.config))),
        "config": pipeline.config.digest(),
    }


def text_settings(pipeline: Pipeline) -> dict[str, Any]:
    """Return every setting that shapes the features of texts: text encoder and fragmenter."""
    config, fragmenter = pipeline.config, pipeline.config.fragmenter
    return {
        "encoder": _weights_and_settings(pipeline.text_encoder, config.text_encoder or config.encoder, texts=True),
        "fragmenter": fragmenter.as_dict() if fragmenter else None,
    }


def folding_settings(similarity: Component) -> dict[str, Any] | None:
    """Return the settings of a similarity that folds, whose vectors a store keeps; None for another."""
    return similarity.as_dict() if _folds(similarity) else None


def differences(have: Mapping[str, Any], want: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield ``(place, value there, value here)`` where two nested settings differ; a missing value is None."""
    all_there, all_here = dict(_leaves(have)), dict(_leaves(want))
    different = [place for place in sorted({**all_there, **all_here}) if all_there.get(place) != all_here.get(place)]
    for place in different:
        # An empty list or mapping there is told by what stands in it here.
        if not any(other.startswith(f"{place}.") for other in different):
            yield place, all_there.get(place), all_here.get(place)


def _defaults(config: Config) -> Iterator[str]:
    """Yield the places in an identity's settings that have their default value."""
    yield from _defaults_of(config.encoder, "encoder.settings")
    if config.proposer is not None:
        yield from _defaults_of(config.proposer, "proposer")
    kept = [component for component in config.filters if "keep" in gives(component)]
    for number, component in enumerate(kept):
        yield from _defaults_of(component, f"filters.{number}")


def _defaults_of(component: Component, place: str) -> Iterator[str]:
    for name, field in type(component.settings).model_fields.items():
        value = getattr(component.settings, name)
        if not field.is_required() and value == field.get_default(call_default_factory=True):
            yield f"{place}.{name}"
    for inner_place, inner in component.nested.items():
        yield from _defaults_of(inner, f"{place}.{inner_place}")


def _folds(similarity: Component) -> bool:
    if similarity.nested:
        return all(_folds(inner) for inner in similarity.nested.values())
    return "folds" in gives(similarity)


def _weights_and_settings(encoder: Encoder, component: Component, *, texts: bool) -> dict[str, Any]:
    """Return what shapes an encoder's vectors: its fingerprint, and settings such as the recipe for patches.

    The place of a file does not: the same weights in another folder have the same fingerprint.
    """
    settings = _shaping(component, texts=texts)
    files = component.settings.facts().files
    return {
        "fingerprint": encoder.fingerprint(),
        "settings": {key: value for key, value in settings.items() if key not in files},
    }


def _shaping(component: Component, *, texts: bool) -> dict[str, Any]:
    """Return the settings that shape vectors of texts, or of images.

    A revision counts for nothing: the same configuration is written with the commit that was here (`Config.to_yaml`),
    and the fingerprint tells other weights apart.
    """
    settings = component.as_dict()
    for place, inner in component.nested.items():
        set_at(settings, place, _shaping(inner, texts=texts))
    settings |= {source.pin: None for source in component.settings.models() if source.pin is not None}
    left_out = () if texts else component.settings.facts().text_settings
    return {key: value for key, value in settings.items() if key not in left_out}


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{place}.{number}")
    elif place:
        yield place, value
