"""Settings of the exact index."""

from __future__ import annotations

from pydantic import Field

from heritage_align.plugin import ComponentConfig


class ExactIndexConfig(ComponentConfig):
    """Exact search; nothing here changes an answer."""

    block_mib: int = Field(
        64,
        ge=1,
        description="memory of a search, in MiB: scores and vectors converted to fp32, of all threads together",
    )
