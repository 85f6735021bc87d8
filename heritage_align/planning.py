"""Check a whole pipeline before any model is loaded: features, dimensions, missing libraries, missing files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heritage_align.component import Facts
from heritage_align.config import Component, Config, with_nested
from heritage_align.errors import ConfigError, HeritageAlignError
from heritage_align.plugins import missing_requirements


def plan(config: Config) -> None:
    """Raise ConfigError with everything that would stop this pipeline from running."""
    problems = list(_invalid_settings([*config.components(), config.executor]))  # a model file that cannot be read, say
    if not problems:
        problems = [
            *missing_pieces([*config.components(), config.executor]),
            *_unmet_needs(config),
            *_dimension_clashes(config),
            *feature_width_clashes(config),
        ]
    if problems:
        raise ConfigError(problems, config.source)


def needs(component: Component) -> set[str]:
    """Return the features that a component and the ones nested in it need (optional ones keep their ``?``)."""
    own = component.settings.facts().inputs
    wanted = set(component.spec.inputs if own is None else own)
    return wanted.union(*(needs(inner) for inner in component.nested.values()))


def gives(component: Component) -> set[str]:
    """Return the features that a component gives under its settings."""
    own = component.settings.facts().outputs
    return set(component.spec.outputs if own is None else own)


def takes_features(config: Config) -> bool:
    """Return whether the regions' features come from the proposer and the encoder projects them."""
    return config.proposer is not None and "features" in gives(config.proposer) and "features" in gives(config.encoder)


def compares_regions(config: Config) -> bool:
    """Return whether pictures have regions and the similarity compares them: then it can say which one answers."""
    return config.proposer is not None and "image.regions" in needs(config.similarity)


def scores_in_place(similarity: Component) -> bool:
    """Return whether a similarity, with candidates, reads their regions alone and may be given a whole store."""
    return "in_place" in gives(similarity) and all(map(scores_in_place, similarity.nested.values()))


def looks_for(reranker: Component) -> set[str]:
    """Return what a reranker looks for in pictures, ``texts``, ``details`` or both; one that says nothing, texts."""
    return gives(reranker) or {"texts"}


def refuse_texts(config: Config) -> None:
    """Raise ConfigError where texts are asked, and the last look (`search.last`) takes none."""
    if config.last is not None and "texts" not in looks_for(config.last):
        fault = (
            f"search.last.name: {config.last.spec.name!r} looks for details, and takes no texts; for queries by text "
            "leave it out (--set search.last=null)"
        )
        raise ConfigError([fault], config.source)


def missing_pieces(components: Sequence[Component]) -> Iterator[str]:
    """Yield what components need and lack here: libraries that are not installed, files that are not there."""
    for component in with_nested(components):
        missing = missing_requirements(component.spec)
        if missing:
            hint = f": {component.spec.install}" if component.spec.install else ""
            yield f"{component.place}.name: {component.spec.name!r} needs {', '.join(missing)}{hint}"
        for key, path in component.settings.facts().files.items():
            if not path.exists():
                yield f"{component.place}.{key}: there is no file {str(path)!r}"


def _invalid_settings(components: Sequence[Component]) -> Iterator[str]:
    for component in with_nested(components):
        try:
            component.settings.facts()
        except (HeritageAlignError, ValueError) as error:
            yield f"{component.place}: {error}"


def _unmet_needs(config: Config) -> Iterator[str]:
    encoder = gives(config.encoder)
    name = config.similarity.spec.name
    texts = gives(config.text_encoder) if config.text_encoder else encoder
    if "global" not in encoder:
        yield f"encoder.name: {config.encoder.spec.name!r} encodes no images; name it as text_encoder"
    if "texts" not in texts:
        yield f"text_encoder.name: {(config.text_encoder or config.encoder).spec.name!r} encodes no texts"
    wanted = needs(config.similarity)
    used = {feature.removesuffix("?") for feature in wanted}
    given = {"image.global", "image.regions", "text.global", "text.fragments"}.union(*map(gives, config.filters))
    for feature in sorted(f for f in wanted - given if not f.endswith("?")):
        yield f"{config.similarity.place}.name: {name!r} needs {feature!r}, which nothing in this pipeline gives"
    if "image.regions" in wanted and config.proposer is None:
        yield f"proposer: is missing; similarity {name!r} compares regions"
    if "text.fragments" in wanted and config.fragmenter is None:
        yield f"fragmenter: is missing; similarity {name!r} compares text fragments"
    if "features" in encoder and not takes_features(config):
        yield (
            f"proposer: encoder {config.encoder.spec.name!r} takes region features; name a proposer that gives them "
            "(heritage-align plugins list --kind proposer)"
        )
    if config.proposer is not None and "patches" in gives(config.proposer) and "patches" not in encoder:
        yield (
            f"proposer.name: {config.proposer.spec.name!r} needs an encoder with patch features, and "
            f"{config.encoder.spec.name!r} has none with these settings"
        )
    if "boxes" in encoder and config.proposer is not None and "features" in gives(config.proposer):
        yield (
            f"{config.encoder.place}.regions: roi pools boxes, and proposer {config.proposer.spec.name!r} brings "
            "features of its own; leave it out, or take a proposer of boxes"
        )
    for outer in with_nested([c for c in (config.encoder, config.text_encoder) if c is not None]):
        for inner in outer.nested.values():
            if "boxes" in gives(inner) and "boxes" not in gives(outer):
                yield f"{inner.place}.regions: roi, and {outer.spec.name!r} encodes no boxes; leave it out"
    for component in config.filters:
        if "keep" in gives(component) and config.proposer is None:
            yield f"{component.place}.name: {component.spec.name!r} filters regions, and there is no proposer"
        if "attention" in gives(component) and "attention" not in used:
            yield f"{component.place}.name: {component.spec.name!r} sets attention, which {name!r} does not have"
        if "keep" in gives(component) and "keep" not in used:
            yield f"{component.place}.name: {component.spec.name!r} masks regions, which {name!r} does not use"


def _dimension_clashes(config: Config) -> Iterator[str]:
    facts: Facts = config.encoder.settings.facts()
    for component in [c for c in (config.text_encoder, config.similarity) if c is not None]:
        dim = component.settings.facts().dim
        if None not in (dim, facts.dim) and dim != facts.dim:
            yield (
                f"{component.place}: {component.spec.name!r} works in {dim} dimensions, encoder "
                f"{config.encoder.spec.name!r} in {facts.dim}"
            )


def feature_width_clashes(config: Config) -> Iterator[str]:
    """Yield where a proposer gives features of another width than an encoder that hands them on as they are.

    An encoder with texts is a trained projection, whose width is that of its space; it checks what it is given.
    """
    if config.proposer is None or not takes_features(config):
        return
    given, taken = config.proposer.settings.facts().dim, config.encoder.settings.facts().dim
    if "texts" not in gives(config.encoder) and None not in (given, taken) and given != taken:
        name = config.proposer.spec.name
        yield f"encoder.dim: says {taken}, the features of proposer {name!r} have {given} dimensions"
