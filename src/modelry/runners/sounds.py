"""Speech in the formats that callers ask for, encoded as it comes: samples in, bytes out.

WAV and PCM are plain numbers; the others are FFmpeg's, written to a container that needs no
going back.
"""

import importlib
import io
import struct
from typing import Any, Protocol

MIME = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_UNKNOWN = 0xFFFFFFFF
"""Stands in a WAV file's header where its length is not known yet."""


class Encoder(Protocol):
    """`feed` takes float32 samples from -1 to 1, one channel; both return what is ready."""

    def feed(self, samples: Any) -> bytes: ...

    def end(self) -> bytes: ...


def encoder(format: str, rate: int) -> Encoder:
    """`rate`: samples a second."""
    if format in ("wav", "pcm"):
        return _Plain(wav_header(rate) if format == "wav" else b"")
    return _Encoded(format, rate)


def wav_header(rate: int, size: int | None = None) -> bytes:
    """Of 16-bit samples, one channel; `size`: of them in bytes, None where it is not known yet.

    http://soundfile.sapp.org/doc/WaveFormat/
    """
    whole, data = (_UNKNOWN, _UNKNOWN) if size is None else (size + 36, size)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", whole, b"WAVE", b"fmt ", 16),
        *(1, 1, rate, rate * 2, 2, 16),
        *(b"data", data),
    )


class _Plain:
    def __init__(self, header: bytes) -> None:
        self._header = header

    def feed(self, samples: Any) -> bytes:
        header, self._header = self._header, b""
        numbers: bytes = _whole_numbers(samples).tobytes()
        return header + numbers

    def end(self) -> bytes:
        return b""


_CODECS = {
    # format: codec, container, samples, bits a second
    "mp3": ("libmp3lame", "mp3", "s16p", 96_000),
    "opus": ("libopus", "ogg", "s16", 48_000),
    "aac": ("aac", "adts", "fltp", 96_000),
    "flac": ("flac", "flac", "s16", None),
}
_OPUS_RATE = 48_000


class _Encoded:
    def __init__(self, format: str, rate: int) -> None:
        self._av: Any = importlib.import_module("av")
        codec, container, samples, bits = _CODECS[format]
        self._out = _Written()
        # A header with the length would be written at the end, which has gone by then.
        options = {"write_xing": "0"} if format == "mp3" else {}
        # A page of Ogg is held until it is full, which takes seconds: these go out sooner.
        options |= {"page_duration": "200000"} if format == "opus" else {}
        self._container = self._av.open(self._out, "w", format=container, options=options)
        self._rate = rate
        # Opus knows few rates; this is its own.
        to = _OPUS_RATE if format == "opus" else rate
        self._stream = self._container.add_stream(codec, rate=to, layout="mono")
        self._stream.format = samples
        if bits is not None:
            self._stream.bit_rate = bits
        self._resampler = self._av.AudioResampler(format=samples, layout="mono", rate=to)

    def feed(self, samples: Any) -> bytes:
        numbers = _whole_numbers(samples)
        frame = self._av.AudioFrame.from_ndarray(numbers[None, :], format="s16", layout="mono")
        frame.sample_rate = self._rate
        self._encode(frame)
        return self._out.taken()

    def end(self) -> bytes:
        self._encode(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._out.taken()

    def _encode(self, frame: Any) -> None:
        for each in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(each))


class _Written(io.RawIOBase):
    """What FFmpeg has written and nobody has taken yet. It cannot go back in it."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def taken(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held


def _whole_numbers(samples: Any) -> Any:
    return (samples.clip(-1.0, 1.0) * 32767.0).astype("<i2")
