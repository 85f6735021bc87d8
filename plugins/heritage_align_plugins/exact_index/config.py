"""Settings of the exact index."""

from __future__ import annotations

from pydantic import Field

from heritage_align.component import ComponentConfig


class ExactIndexConfig(ComponentConfig):
    """Exact search; nothing here changes an answer."""

    block_mib: int = Field(
        64, ge=1, description="scores held at once, in MiB; vectors are converted to fp32 in pieces of 4 MiB"
    )
