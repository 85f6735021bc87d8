"""Settings of the local executor."""

from __future__ import annotations

from heritage_align.plugin import ComponentConfig


class LocalExecutorConfig(ComponentConfig):
    """Nothing to set: ``runtime`` says how many threads and which device."""
