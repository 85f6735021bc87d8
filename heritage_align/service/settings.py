"""Settings of the service: limits of what one request may cost, and who may ask. Loads no heavy library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from heritage_align.document import parse_yaml
from heritage_align.errors import ConfigError

TOKEN_VARIABLE = "HERITAGE_ALIGN_TOKEN"
"""Environment variable of the token: a command line would show it to everybody on the machine."""


class ServiceSettings(BaseModel):
    """What ``heritage-align serve`` takes from its settings file; every limit is of one process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(16 * 2**20, ge=1024, description="of a request's body")
    body_seconds: float = Field(10, gt=0, description="until a request's body is there; a slow client gets 408")
    header_seconds: float = Field(10, gt=0, description="until a request's headers are there; else it is cut off")
    header_bytes: int = Field(64 * 2**10, ge=1024, description="of a request's address and headers; more get 400")
    write_seconds: float = Field(30, gt=0, description="that a client may leave an answer unread")
    keep_alive_seconds: int = Field(30, ge=1, description="that an idle connection is kept")
    answer_seconds: float = Field(30, gt=0, description="from a request's body to its answer; else 503")
    stop_seconds: int = Field(30, ge=1, description="that answers in progress may take when the service is stopped")
    connections: int = Field(1000, ge=1, description="open at once; more get 503")
    waiting: int = Field(64, ge=1, description="requests in progress, waiting ones among them; more get 429")
    picture_waiting: int = Field(128, ge=1, description="pictures in progress; more get 429")
    batch: int = Field(32, ge=1, description="requests answered by one call of the searcher at most; 1: no batching")
    batch_window: float = Field(
        0.001, ge=0, le=0.002, description="seconds that a batch waits for those who asked with the one before"
    )
    top_k: int = Field(1000, ge=1, description="answers of a search")
    candidates: int = Field(10_000, ge=1, description="of a search")
    documents: int = Field(10_000, ge=1, description="of a rerank")
    pictures: int = Field(8, ge=1, description="that come with one request, boxes counted one by one")
    text_length: int = Field(2000, ge=1, description="characters of a text")
    phrases: int = Field(64, ge=1, description="that are named with a text")
    pixels: int = Field(50_000_000, ge=1, description="of a picture; a larger one is decoded smaller or refused")
    picture_side: int = Field(2048, ge=64, description="longer side of a picture that is given out, in pixels")
    picture_cache: int = Field(64 * 2**20, ge=0, description="bytes of pictures that are kept ready")
    image_hosts: tuple[str, ...] = Field((), description="hosts whose pictures a rerank may name by address; none")
    private_image_hosts: bool = Field(
        False, description="whether image_hosts may have private addresses, as an image server in the house has"
    )
    fetch_seconds: float = Field(10, gt=0, description="for a picture from image_hosts")
    cors_origins: tuple[str, ...] = Field((), description="origins whose pages may ask; none")
    reload_seconds: float = Field(1, gt=0, description="between two looks at whether a store was updated or replaced")
    page: bool = Field(True, description="whether there is a page for people at /")
    log_queries: bool = Field(False, description="whether the log has the texts that are asked")
    token: SecretStr | None = Field(
        None, description=f"that requests must bear; better given as {TOKEN_VARIABLE} or --token-file"
    )

    @field_validator("token")
    @classmethod
    def _is_a_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value().strip()
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("expected printable ASCII without spaces")
        return SecretStr(text)


def read_settings(file: Path | None, token_file: Path | None = None, **given: Any) -> ServiceSettings:
    """Read the settings file, the token and what the command line names.

    Args:
        file: YAML of `ServiceSettings`; None for the defaults.
        token_file: holds the token; else it is that of the environment (`TOKEN_VARIABLE`) or of `file`.
        given: settings that take the place of the file's; None leaves one alone.

    Raises:
        ConfigError: every fault at once.
    """
    source = "service settings" if file is None else str(file)
    try:
        document = {} if file is None else parse_yaml(file.read_text(encoding="utf-8"), source) or {}
        token = token_file.read_text(encoding="utf-8") if token_file is not None else os.environ.get(TOKEN_VARIABLE)
    except OSError as error:
        raise ConfigError([f"{error.filename}: cannot be read: {error.strerror or error}"], source) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"is not UTF-8: {error}"], source) from error
    named = {name: value for name, value in given.items() if value is not None}
    if token is not None:
        named["token"] = token
    try:
        return ServiceSettings(**{**document, **named})
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError(faults, source) from None


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError where there is nothing to serve, or two recipes have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        fault = f"name: {', '.join(twice)}: two recipes have this name; give one another `name` in its file"
        raise ConfigError([fault if twice else "there is no recipe to serve"], "serve")
