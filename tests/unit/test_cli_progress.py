"""What a person reads of a fetch while it is under way."""

import pytest

from modelry.cli.progress import pace_text


@pytest.mark.parametrize(
    ("speed", "left_s", "text"),
    [
        (None, None, ""),
        (12_345_678, None, "12.3 MB/s"),
        (12_345_678, 64.6, "12.3 MB/s, 1:05 left"),
        (500, 3725.0, "500 B/s, 1:02:05 left"),
        (0, None, "0 B/s"),
    ],
)
def test_speed_and_time_left_are_said_once_known(
    speed: int | None, left_s: float | None, text: str
) -> None:
    assert pace_text({"bytes_per_second": speed, "left_s": left_s}) == text
    assert pace_text({}) == ""
