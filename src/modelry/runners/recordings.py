"""Recordings that callers send, decoded piece by piece: none is ever whole in memory.

Nothing of a file is believed. FFmpeg, which decodes it, reads playlists too, and would open
the files and addresses that they name: only plain containers of sound are allowed, and nothing
beside the file itself is opened.
"""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from modelry.runners.refusals import Cancelled, Refused

RATE = 16_000
"""Samples a second, as Whisper wants them."""

PIECE_S = 180
"""What is heard at once: its spectrum takes 150 MB then, of each slot."""
_QUIET_WITHIN_S = 30
_SLOWEST, _FASTEST = 4_000, 768_000
"""Samples a second of a file. One that claims fewer makes hours of memory out of a few bytes."""
_STEP = RATE // 10

_CONTAINERS = (
    "wav,w64,mp3,flac,ogg,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,aac,aiff,au,caf,amr,mpeg,mpegts,asf"
)
_KINDS = "flac, m4a, mp3, mp4, mpeg, mpga, oga, ogg, wav or webm"
_BROKEN_MOST = 1000
"""Packets in a row that cannot be decoded."""


class Recording:
    """A file that holds sound, `most_s` seconds of it at most. Closed files and other threads' uses
    of it are not looked for.
    """

    def __init__(self, file: BinaryIO, most_s: float, gone: threading.Event) -> None:
        self._file = file
        self._most_s = most_s
        self._gone = gone

    def measure(self) -> float:
        """Its length in seconds, found by decoding it. Raises `Refused` or `Cancelled`."""
        samples = sum(len(block) for block in self._blocks())
        if samples < RATE // 100:
            raise Refused("The file has no sound in it: its length is 0 s.", param="file")
        return samples / RATE

    def pieces(self) -> Iterator[tuple[float, Any]]:
        """Where each begins in seconds, and its samples: float32 from -1 to 1, one channel.

        A recording of over three minutes is cut where it is quietest in the last half minute of
        each three. Raises `Refused` or `Cancelled`.
        """
        numpy: Any = importlib.import_module("numpy")
        held: list[Any] = []
        size = begun = 0
        for block in self._blocks():
            held.append(block)
            size += len(block)
            if size < PIECE_S * RATE:
                continue
            whole = numpy.concatenate(held)
            # One block may hold more than a piece.
            while len(whole) >= PIECE_S * RATE:
                cut = _quietest(numpy, whole[: PIECE_S * RATE])
                yield begun / RATE, _floats(numpy, whole[:cut])
                begun += cut
                whole = whole[cut:]
            held, size = [whole], len(whole)
        if size:
            yield begun / RATE, _floats(numpy, numpy.concatenate(held))

    def _blocks(self) -> Iterator[Any]:
        """16-bit samples, as they are decoded. A frame's length is known before it is resampled,
        which is when it may become large.
        """
        av: Any = importlib.import_module("av")
        with self._opened(av) as container:
            if not container.streams.audio:
                raise Refused(
                    "The file has no sound in it: it is a video without a sound track.",
                    param="file",
                )
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            length_s = 0.0
            for frame in self._frames(av, container, stream):
                length_s += _length_s(frame)
                if length_s > self._most_s:
                    raise Refused(
                        f"The recording is longer than {self._most_s / 60:g} minutes, the most "
                        "that is taken; cut it into parts.",
                        param="file",
                    )
                # Gaps and jumps of its clock do not matter.
                frame.pts = None
                yield from _even(av, resampler, frame)
            yield from _even(av, resampler, None)

    def _frames(self, av: Any, container: Any, stream: Any) -> Iterator[Any]:
        """Broken packets are passed over, as players do."""
        broken = 0
        packets = container.demux(stream)
        while True:
            if self._gone.is_set():
                raise Cancelled
            try:
                packet = next(packets)
                frames = packet.decode()
            except (StopIteration, EOFError):
                return
            except (av.error.FFmpegError, ValueError):
                broken += 1
                if broken > _BROKEN_MOST:
                    raise _unreadable() from None
                continue
            broken = 0
            yield from frames

    @contextmanager
    def _opened(self, av: Any) -> Iterator[Any]:
        self._file.seek(0)
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
        try:
            container = av.open(self._file, mode="r", options=options, metadata_errors="ignore")
        except (av.error.FFmpegError, ValueError):
            raise _unreadable() from None
        with container:
            yield container


def _length_s(frame: Any) -> float:
    rate = frame.sample_rate
    if not _SLOWEST <= rate <= _FASTEST:
        raise Refused(
            f"The file has {rate} samples a second; from {_SLOWEST} to {_FASTEST} are taken.",
            param="file",
        )
    return float(frame.samples / rate)


def _even(av: Any, resampler: Any, frame: Any) -> Iterator[Any]:
    try:
        frames = resampler.resample(frame)
    except (av.error.FFmpegError, ValueError):
        # Channels or a rate that nothing can play, or that change on the way.
        raise _unreadable() from None
    for each in frames:
        yield each.to_ndarray()[0]


def _quietest(numpy: Any, samples: Any) -> int:
    """Where to cut: in the middle of the quietest tenth of a second near the end."""
    tail = samples[-_QUIET_WITHIN_S * RATE :]
    steps = len(tail) // _STEP
    loud = numpy.abs(tail[: steps * _STEP].astype("int32")).reshape(steps, _STEP).mean(axis=1)
    return int(len(samples) - len(tail) + loud.argmin() * _STEP + _STEP // 2)


def _floats(numpy: Any, samples: Any) -> Any:
    return samples.astype(numpy.float32) / 32768.0


def _unreadable() -> Refused:
    return Refused(
        f"The file cannot be read as sound: it is damaged, cut off or of another kind. Send "
        f"{_KINDS}.",
        param="file",
    )
