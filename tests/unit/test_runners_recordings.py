"""Recordings that are not what they seem, and where long ones are cut.

PyAV is in the runtimes alone: a stand-in decodes here. `tests/slow` sends real files.
"""

import io
import sys
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from modelry.runners.recordings import PIECE_S, RATE, Recording
from modelry.runners.refusals import Refused

numpy: Any = pytest.importorskip("numpy")


@dataclass
class Frame:
    sample_rate: int
    samples: int
    pts: int | None = 0


class Container(SimpleNamespace):
    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_problem: object) -> None:
        pass


class Decoder:
    """Stands in for `av`. `resampled`: the frames that came so far."""

    def __init__(self, *frames: Frame) -> None:
        self.error = SimpleNamespace(FFmpegError=OSError)
        self.resampled: list[Frame] = []
        self._frames = frames

    def open(self, *_arguments: Any, **_options: Any) -> Any:
        packets = [SimpleNamespace(decode=lambda each=each: [each]) for each in self._frames]
        streams = SimpleNamespace(audio=[None])
        return Container(streams=streams, demux=lambda _stream: iter(packets))

    def AudioResampler(self, **_options: Any) -> Any:  # noqa: N802
        return SimpleNamespace(resample=self._resample)

    def _resample(self, frame: Frame | None) -> list[Any]:
        if frame is None:
            return []
        self.resampled.append(frame)
        samples = numpy.arange(frame.samples * RATE // frame.sample_rate).astype("int16")
        return [SimpleNamespace(to_ndarray=lambda: samples[None, :])]


def recording(
    monkeypatch: pytest.MonkeyPatch, *frames: Frame, most_s: float = 3600
) -> tuple[Recording, Decoder]:
    decoder = Decoder(*frames)
    monkeypatch.setitem(sys.modules, "av", decoder)
    return Recording(io.BytesIO(), most_s, threading.Event()), decoder


@pytest.mark.parametrize("rate", [0, 1, 3_999, 768_001, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused(
    monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    found, decoder = recording(monkeypatch, Frame(rate, 100))
    with pytest.raises(Refused, match="samples a second") as caught:
        found.measure()
    assert caught.value.param == "file"
    assert not decoder.resampled


def test_a_frame_that_is_too_long_is_refused_before_it_is_resampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, long = Frame(8_000, 8_000), Frame(8_000, 8_000 * 3_600)
    found, decoder = recording(monkeypatch, good, long)
    with pytest.raises(Refused, match="longer than 60 minutes"):
        found.measure()
    assert decoder.resampled == [good]


def test_a_recording_as_long_as_may_be_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = recording(monkeypatch, Frame(8_000, 8_000), Frame(48_000, 96_000), most_s=3)
    assert found.measure() == 3


@pytest.mark.parametrize("seconds", [(1_000,), (10, 700, 5), (PIECE_S,), (1, 1)])
def test_no_piece_is_long_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, seconds: tuple[int, ...]
) -> None:
    found, _ = recording(monkeypatch, *(Frame(RATE, RATE * each) for each in seconds))
    pieces = list(found.pieces())
    assert all(0 < len(samples) <= PIECE_S * RATE for _, samples in pieces)
    at = 0
    for begin, samples in pieces:
        assert begin == at / RATE
        at += len(samples)
    whole = numpy.concatenate([numpy.arange(RATE * each).astype("int16") for each in seconds])
    heard = numpy.concatenate([samples for _, samples in pieces])
    assert numpy.array_equal(heard * 32768, whole)
