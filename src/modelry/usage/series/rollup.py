"""What single requests add to their service's minute and hour. Pure."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from modelry.routing.messages import BUCKETS_S, UsageEvent
from modelry.usage.series.steps import KEPT_S, step_start

KEYS = ("step", "service_id", "start")
FIRST_TOKEN = tuple(f"first_token_{bucket}" for bucket in range(len(BUCKETS_S) + 1))
"""The columns of a histogram, a bucket each: any database can add to them, and add them up."""
SUMS = (
    "requests",
    "errors",
    "cancelled",
    "prompt_tokens",
    "completion_tokens",
    "streamed_tokens",
    "generation_s",
    "queue_s",
    *FIRST_TOKEN,
)


def rows_of(events: Iterable[UsageEvent]) -> list[dict[str, Any]]:
    """The events' sums by kept step, service and start.

    They are sorted, so that no two batches lock the same rows crosswise.
    """
    rows: defaultdict[tuple[int, str, int], dict[str, float]]
    rows = defaultdict(lambda: dict.fromkeys(SUMS, 0))
    for event in events:
        added = _added(event)
        for step in KEPT_S:
            row = rows[step, event.service_id, step_start(event.at, step)]
            for name, value in added.items():
                row[name] += value
    return [dict(zip(KEYS, key, strict=True)) | rows[key] for key in sorted(rows)]


def _added(event: UsageEvent) -> dict[str, float]:
    added: dict[str, float] = {
        "requests": 1,
        "errors": event.status >= 400 and not event.cancelled,
        "cancelled": event.cancelled,
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "queue_s": event.queue_s,
    }
    first_s = event.first_token_s
    if first_s is not None:
        added[FIRST_TOKEN[bisect_left(BUCKETS_S, first_s)]] = 1
        # Of an answer that came whole, nobody knows when its first token was there.
        if event.stream and event.completion_tokens and event.duration_s > first_s:
            added["streamed_tokens"] = event.completion_tokens
            added["generation_s"] = event.duration_s - first_s
    return added
