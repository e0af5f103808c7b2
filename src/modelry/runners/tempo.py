"""Speech made quicker without raising its pitch, by FFmpeg's `atempo`."""

import importlib
from typing import Any


def quickened(samples: Any, rate: int, tempo: float) -> Any:
    """`samples`: float32, one channel. `tempo`: from 0.5 to 100, 1 leaves them as they are."""
    if tempo == 1.0 or not len(samples):
        return samples
    av: Any = importlib.import_module("av")
    numpy: Any = importlib.import_module("numpy")
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="flt", sample_rate=rate, layout="mono")
    filtered = graph.add("atempo", f"{tempo:.4f}")
    sink = graph.add("abuffersink")
    source.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
    frame.sample_rate = rate
    graph.push(frame)
    graph.push(None)
    made = []
    while True:
        try:
            made.append(graph.pull().to_ndarray()[0])
        except (av.error.EOFError, av.error.BlockingIOError):
            return numpy.concatenate(made) if made else samples[:0]
