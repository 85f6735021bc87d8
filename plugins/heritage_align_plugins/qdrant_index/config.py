"""Settings of the Qdrant index."""

from __future__ import annotations

from pydantic import Field

from heritage_align.plugin import ComponentConfig


class QdrantIndexConfig(ComponentConfig):
    """Where the collection is, and the graph that a server makes of it."""

    url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="of a server, such as http://localhost:6333; without one the client searches in memory, exactly",
    )
    api_key_variable: str = Field(
        "QDRANT_API_KEY",
        description="environment variable with the server's key; the key is no setting, which are saved",
    )
    m: int = Field(16, ge=4, description="server: neighbours of a vector in the graph")
    ef_construct: int = Field(100, ge=4, description="server: vectors that are looked at to place a new one")
    ef: int = Field(128, ge=1, description="server: vectors that a query keeps in sight")
    timeout: int = Field(60, ge=1, description="server: seconds that an answer may take")
