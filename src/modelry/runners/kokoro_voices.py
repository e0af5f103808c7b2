"""The backend of engine `kokoro`: one model and a file of numbers for each voice.

As `onnx-community/Kokoro-82M-v1.0-ONNX` lays them: `onnx/model*.onnx`, `voices/*.bin` (float32, 256
for each length of a sentence) and `tokenizer.json` with the vocabulary. Nothing of them is a
pickle, and none is opened as one.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from modelry.runners.speech_request import Voices

_STYLE = 256
_LANGUAGES = {
    # A voice's first letter is its language; these are those that espeak-ng reads well.
    "a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br",
}  # fmt: skip
_LATIN = frozenset("abefip")
_FIRST = "af_heart"
_PHONEMES_MOST = 510
_QUIET = 0.003
_PAUSE_S = 0.25


class KokoroVoices:
    quickest = 2.0

    def __init__(self, weights: Path, threads: int) -> None:
        runtime: Any = importlib.import_module("onnxruntime")
        self._numpy: Any = importlib.import_module("numpy")
        reading: Any = importlib.import_module("kokoro_onnx.tokenizer")
        chunks: Any = importlib.import_module("kokoro_onnx.chunker")
        models = sorted(weights.rglob("*.onnx"))
        if len(models) != 1:
            raise ValueError(f"there are {len(models)} .onnx files among the weights, not one")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session: Any = runtime.InferenceSession(
            str(models[0]), options, providers=["CPUExecutionProvider"]
        )
        inputs = {each.name: each.type for each in self._session.get_inputs()}
        self._tokens = "input_ids" if "input_ids" in inputs else "tokens"
        if set(inputs) != {self._tokens, "style", "speed"}:
            raise ValueError(f"it is no model of Kokoro: it takes {', '.join(sorted(inputs))}")
        self._styles = self._read_voices(weights)
        self._reader: Any = reading.Tokenizer(vocab=_vocabulary(weights))
        self._split: Any = chunks.split_phonemes
        self.rate = 24_000
        default = _FIRST if _FIRST in self._styles else min(self._styles)
        self.voices = Voices({name: name[0] in _LATIN for name in self._styles}, default)

    def speak(self, sentence: str, voice: str, speed: float) -> Any:
        numpy = self._numpy
        phonemes = " ".join(self._reader.phonemize(sentence, _LANGUAGES[voice[0]]).split())
        styles = self._styles[voice]
        made = []
        for part in self._split(phonemes, _PHONEMES_MOST):
            tokens = self._reader.tokenize(part)
            if not tokens:
                continue
            inputs = {
                self._tokens: numpy.array([[0, *tokens, 0]], numpy.int64),
                "style": styles[min(len(tokens), len(styles)) - 1][None, :],
                "speed": numpy.array([speed], numpy.float32),
            }
            spoken = numpy.asarray(self._session.run(None, inputs)[0], numpy.float32).ravel()
            made += [self._trimmed(spoken), numpy.zeros(int(_PAUSE_S * self.rate), numpy.float32)]
        return numpy.concatenate(made) if made else numpy.zeros(0, numpy.float32)

    def _trimmed(self, samples: Any) -> Any:
        """Without the silence before and after, of which the model makes much."""
        (loud,) = self._numpy.nonzero(abs(samples) > _QUIET)
        if not len(loud):
            return samples
        edge = self.rate // 50
        return samples[max(0, loud[0] - edge) : loud[-1] + edge]

    def _read_voices(self, weights: Path) -> dict[str, Any]:
        found = {}
        for file in sorted(weights.rglob("*.bin")):
            if file.stem[:1] in _LANGUAGES and file.stem[2:3] == "_":
                numbers = self._numpy.fromfile(file, "<f4")
                if not len(numbers) or len(numbers) % _STYLE:
                    raise ValueError(f"{file.name} is no voice: it has {len(numbers)} numbers")
                found[file.stem] = numbers.reshape(-1, _STYLE)
        if not found:
            raise ValueError("there are no voices beside the model: voices/*.bin")
        return found


def _vocabulary(weights: Path) -> dict[str, int] | None:
    """Phonemes and their numbers; None: those that the package has."""
    for file in weights.rglob("tokenizer.json"):
        read = json.loads(file.read_bytes())
        return {str(key): int(value) for key, value in read["model"]["vocab"].items()}
    return None
