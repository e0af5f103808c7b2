"""What the management API shows of weights: how far they are, and what they take."""

from datetime import datetime
from typing import Literal, Protocol

from pydantic import BaseModel, Field


class Pace(Protocol):
    """How far something is that takes its time; `total_bytes` 0: not known."""

    @property
    def done_bytes(self) -> int: ...
    @property
    def total_bytes(self) -> int: ...
    @property
    def bytes_per_second(self) -> float | None: ...
    @property
    def left_s(self) -> float | None: ...


class ProgressView(BaseModel):
    """How far a fetch is; null is what is not known yet."""

    done_bytes: int
    total_bytes: int | None
    bytes_per_second: int | None = Field(None, description="Over the last seconds.")
    left_s: float | None = Field(None, description="At that speed.")


class FindingView(BaseModel):
    name: str
    found: Literal["damaged", "missing", "changed"]


class CheckView(BaseModel):
    """What a check of weights found. `message` says it in words."""

    variant: str
    state: Literal["checking", "whole", "damaged", "failed"]
    progress: ProgressView | None
    files: list[FindingView] = Field(description="Those that are not what they were.")
    message: str
    checked_at: datetime | None


class PruneView(BaseModel):
    """What was removed, or would be."""

    dry_run: bool
    files: int
    freed_bytes: int = Field(description="On disk: a file with several names counts once.")


class ModelDiskView(BaseModel):
    model: str
    name: str
    owner: str | None
    variant: str
    source: str
    disk_bytes: int = Field(description="What several models share counts for each of them.")


class DiskView(BaseModel):
    """What weights take on disk, and what there is room for."""

    total_bytes: int
    free_bytes: int
    partial_bytes: int = Field(description="Of fetches that are not over.")
    unused_bytes: int = Field(description="What a clean-up would free.")
    models: list[ModelDiskView] = Field(description="Those whose weights are here.")


def progress_view(pace: Pace) -> ProgressView:
    speed, left_s = pace.bytes_per_second, pace.left_s
    return ProgressView(
        done_bytes=pace.done_bytes,
        total_bytes=pace.total_bytes or None,
        bytes_per_second=None if speed is None else round(speed),
        left_s=None if left_s is None else round(left_s, 1),
    )
