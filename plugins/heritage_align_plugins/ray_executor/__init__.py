"""Encode and search a collection on a Ray cluster, from the same config."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the Ray executor."""
    return [
        ComponentSpec(
            "executor",
            "ray",
            target="heritage_align_plugins.ray_executor.executor:RayExecutor",
            config="heritage_align_plugins.ray_executor.config:RayExecutorConfig",
            summary="encode and search on a Ray cluster: nodes decode, encode and hold parts of the store",
            requires=("ray", "pyarrow"),
            install="pip install 'heritage-align[ray]'",
        )
    ]
