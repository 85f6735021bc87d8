"""What is counted, in Prometheus' form; with several workers the numbers are of all of them.

prometheus_client chooses when it is imported whether it keeps numbers in files that processes share
(`PROMETHEUS_MULTIPROC_DIR`); `workers` sets that before a worker begins.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

REQUESTS = Counter("heritage_align_requests", "Requests that were answered.", ["method", "path", "status"])
REQUEST_SECONDS = Histogram(
    "heritage_align_request_seconds", "From a request's headers to its answer.", ["path"], buckets=SECONDS
)
IN_PROGRESS = Gauge(
    "heritage_align_in_progress", "Requests in progress, waiting ones among them.", multiprocess_mode="livesum"
)
SHED = Counter("heritage_align_shed", "Requests that were answered with 429.")
CALL_QUESTIONS = Histogram(
    "heritage_align_call_questions", "Requests answered by one call.", buckets=(1, 2, 4, 8, 16, 32, 64)
)
CALL_SECONDS = Histogram("heritage_align_call_seconds", "Seconds of one call.", buckets=SECONDS)
RELOADS = Counter("heritage_align_reloads", "Stores opened again.", ["recipe", "outcome"])
IMAGES = Gauge("heritage_align_store_images", "Images of the store.", ["recipe"], multiprocess_mode="mostrecent")


def observe_call(questions: int, seconds: float) -> None:
    """Count one call of a searcher."""
    CALL_QUESTIONS.observe(questions)
    CALL_SECONDS.observe(seconds)


def exposition() -> bytes:
    """Return the metrics of this process, or of all workers."""
    if SHARED not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
