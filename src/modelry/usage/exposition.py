"""Prometheus' text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from collections.abc import Iterator
from itertools import accumulate

from modelry.routing.messages import BUCKETS_S, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def family(name: str, kind: str, help_text: str) -> Iterator[str]:
    """The two lines that stand before the samples of one name."""
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def sample(name: str, value: float, **labels: object) -> str:
    shown = ",".join(f'{label}="{_escaped(each)}"' for label, each in labels.items())
    return f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def histogram(name: str, observed: Histogram, **labels: object) -> Iterator[str]:
    """Ours counts each bucket by itself, theirs counts all up to its bound."""
    bounds = (*BUCKETS_S, "+Inf")
    for bound, count in zip(bounds, accumulate(observed.counts), strict=True):
        yield sample(f"{name}_bucket", count, **labels, le=bound)
    yield sample(f"{name}_sum", observed.total_s, **labels)
    yield sample(f"{name}_count", sum(observed.counts), **labels)


def _escaped(value: object) -> str:
    return str(value).translate(_ESCAPES)
