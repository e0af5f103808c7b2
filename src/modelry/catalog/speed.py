"""How fast something comes, smoothed over the last seconds. Pure: it is told the time."""

from collections import deque

_WINDOW_S = 5.0
_STEP_S = 0.25
_SOONEST_S = 0.5
"""Less than this says nothing yet: the first bytes often come from a buffer."""


class Speed:
    """Times are those of a monotonic clock, in seconds. It knows no threads."""

    def __init__(self) -> None:
        self._from_s: float | None = None
        # (begin of the step, bytes in it): few, however many calls there are.
        self._steps: deque[tuple[float, int]] = deque()

    def add(self, count: int, now_s: float) -> None:
        """So many bytes have just come."""
        if self._from_s is None:
            self._from_s = now_s
        if self._steps and now_s - self._steps[-1][0] < _STEP_S:
            begin_s, before = self._steps.pop()
            self._steps.append((begin_s, before + count))
        else:
            self._steps.append((now_s, count))
        self._forget(now_s)

    def bytes_per_second(self, now_s: float) -> float | None:
        """None while it cannot be said. What has stalled comes down to 0."""
        self._forget(now_s)
        if self._from_s is None or now_s - self._from_s < _SOONEST_S:
            return None
        return sum(count for _, count in self._steps) / min(now_s - self._from_s, _WINDOW_S)

    def _forget(self, now_s: float) -> None:
        while self._steps and self._steps[0][0] <= now_s - _WINDOW_S:
            self._steps.popleft()


def seconds_left(missing_bytes: int, bytes_per_second: float | None) -> float | None:
    """None where it is not known, or would be for ever."""
    if bytes_per_second is None or bytes_per_second < 1:
        return None
    return max(0, missing_bytes) / bytes_per_second
