"""The executor of a config without one: everything in this process."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the local executor."""
    return [
        ComponentSpec(
            "executor",
            "local",
            target="heritage_align_plugins.local_executor.executor:LocalExecutor",
            config="heritage_align_plugins.local_executor.config:LocalExecutorConfig",
            summary="encode and search in this process; index build --shard i/n shares the work of a build",
            role="default",
        )
    ]
