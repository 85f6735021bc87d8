"""Logs as JSON lines on standard error: one line a request, and what the service says of itself."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

LOGGER = "heritage_align.service"
logger = logging.getLogger(LOGGER)


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, event, and what `extra={"fields": {...}}` gives."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_config(level: str = "INFO") -> dict[str, Any]:
    """Return the logging configuration for uvicorn and the service; uvicorn's own line a request is left out."""
    to_lines = {"handlers": ["lines"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}},
        "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            "uvicorn": to_lines,
            "uvicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
            LOGGER: to_lines,
        },
        "root": {"handlers": ["lines"], "level": "WARNING"},
    }
