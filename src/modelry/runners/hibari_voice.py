"""The backend of engine `hibari`: English voices of 8 MB, each a model of its own."""

import hashlib
import importlib
from pathlib import Path
from typing import Any

from modelry.runners.speech_request import Voices


class HibariVoices:
    """Loads every voice of a file or folder. A file is known by its digest, as the package lists
    those of its makers; another one is called `default`.
    """

    quickest = 1.5
    """Above it the model hardly gets quicker."""

    def __init__(self, weights: Path, threads: int) -> None:
        hibari: Any = importlib.import_module("hibari")
        registry: Any = importlib.import_module("hibari.voices")
        spelling: Any = importlib.import_module("hibari.g2p")
        known = {each["sha256"]: name for name, each in registry.VOICES.items()}
        files = sorted(weights.glob("*.onnx")) if weights.is_dir() else [weights]
        if not files:
            raise ValueError("there is no .onnx file among the weights")
        self.rate = int(hibari.SAMPLE_RATE)
        self._loaded: dict[str, Any] = {}
        readers: dict[bool, Any] = {}
        for file in files:
            name = known.get(hashlib.sha256(file.read_bytes()).hexdigest(), "default")
            british = bool(registry.VOICES.get(name, {}).get("british"))
            voice = hibari.Hibari(voice=name, model=str(file), threads=threads)
            _check_graph(voice.sess)
            # What reads the spelling is large, and the same for all voices of an accent.
            if british not in readers:
                readers[british] = spelling.G2P(british=british)
            voice._g2p = readers[british]
            self._loaded[name] = voice
        first = registry.DEFAULT if registry.DEFAULT in self._loaded else next(iter(self._loaded))
        self.voices = Voices(dict.fromkeys(self._loaded, True), first)

    def speak(self, sentence: str, voice: str, speed: float) -> Any:
        """float32 samples; none where nothing of it can be read."""
        return self._loaded[voice](sentence, speed=speed)


def _check_graph(session: Any) -> None:
    inputs = {each.name for each in session.get_inputs()}
    if inputs != {"ids", "speed"}:
        raise ValueError(f"it is no voice of hibari: it takes {', '.join(sorted(inputs))}")
