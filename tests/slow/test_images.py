"""Pictures from a real pipeline of diffusers, called as callers do: through the gateway, by the
SDK of OpenAI. Its weights are random, its architecture is that of Stable Diffusion.
"""

import base64
import io
import json
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest
from openai import OpenAI
from openai.types import (
    ImageEditCompletedEvent,
    ImageEditPartialImageEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
)

from modelry.client import Json
from tests.support.engines import only_replica, record_file
from tests.support.instance import Instance
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

RUNTIME = "diffusers-0.42.1-cpu"
STEPS = 8
START_S = 600.0
LONG: Json = {"size": "192x192", "num_inference_steps": 150}
"""What takes a minute on two cores."""


@pytest.fixture(scope="module")
def bare(make_slow_instance: Callable[[], Instance]) -> Instance:
    """An instance that has the runtime."""
    instance = make_slow_instance().start()
    assert instance.api("POST", f"/engines/{RUNTIME}/install").is_success
    wait_for(lambda: state_of_runtime(instance) == "installed", "the runtime", START_S, 0.5)
    return instance


def state_of_runtime(instance: Instance) -> str:
    with instance.client() as client:
        engines = client.list("/engines")
    return str(next(each["state"] for each in engines if each["id"] == RUNTIME))


@pytest.fixture(scope="module")
def pipeline(bare: Instance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    make_pipeline(bare, folder)
    # What lies beside it in a repository, and is no part of it.
    (folder / "tiny.ckpt").write_bytes(b"a checkpoint in one file")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    return folder


def make_pipeline(instance: Instance, folder: Path, *options: str) -> None:
    script = Path(__file__).parents[1] / "support" / "tiny_pipeline.py"
    python = instance.paths.data / "runtimes" / RUNTIME / "bin" / "python"
    subprocess.run([str(python), str(script), str(folder), *options], check=True, timeout=300)


@pytest.fixture(scope="module")
def instance(bare: Instance, pipeline: Path) -> Instance:
    with bare.client() as client:
        body = {"name": "tiny", "source": pipeline.as_uri(), "tasks": ["image"]}
        model = client.post("/models", body)
    assert model["variants"][0]["format"] == "diffusers", model
    spec: Json = {"engine_args": ["--default-steps", str(STEPS), "--max-side=512"], "slots": 8}
    service = deployed(bare, "pictures", **spec)
    assert (service["spec"]["engine"], service["spec"]["runtime"]) == ("diffusers", RUNTIME)
    return bare


@pytest.fixture(scope="module")
def sdk(instance: Instance) -> Iterator[OpenAI]:
    with instance.openai(instance.key(), timeout=180) as client:
        yield client


def deployed(instance: Instance, name: str, state: str = "running", **spec: object) -> Json:
    body = {"name": name, "model": "tiny", **spec}
    made = instance.api("POST", "/services", json=body)
    assert made.status_code == 201, made.text

    def over() -> Json | None:
        service = instance.service(name)
        return service if service["status"]["state"] in ("running", "failed") else None

    service = wait_for(over, f"{name} to be {state}", START_S, 0.5)
    assert service["status"]["state"] == state, service["status"]
    return service


def generate(sdk: OpenAI, prompt: str = "a cat", **fields: Any) -> list[bytes]:
    more = {name: fields.pop(name) for name in ("seed", "num_inference_steps") if name in fields}
    answer = sdk.images.generate(
        model="pictures", prompt=prompt, response_format="b64_json", extra_body=more, **fields
    )
    assert answer.data is not None
    return [base64.b64decode(each.b64_json or "") for each in answer.data]


# -- pictures, read and written without a library ---------------------------------------


def png(width: int, height: int, pixel: Callable[[int, int], tuple[int, ...]]) -> bytes:
    rows = b"".join(
        b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height)
    )
    kind = {1: 0, 3: 2, 4: 6}[len(pixel(0, 0))]
    return png_of(width, height, kind, zlib.compress(rows))


def png_of(width: int, height: int, kind: int, data: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        checked = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checked)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pixels(picture: bytes) -> tuple[tuple[int, int], list[bytes]]:
    """Size and rows of an RGB PNG."""
    width, height, bits, kind = struct.unpack(">IIBB", picture[16:26])
    assert (bits, kind) == (8, 2)
    data, at = b"", 8
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        if picture[at + 4 : at + 8] == b"IDAT":
            data += picture[at + 8 : at + 8 + length]
        at += length + 12
    return (width, height), list(_rows(zlib.decompress(data), width * 3))


def _rows(data: bytes, stride: int) -> Iterator[bytes]:
    """Undoes PNG's filters: https://www.w3.org/TR/png-3/#9Filters"""
    before = bytearray(stride)
    stream = io.BytesIO(data)
    while filter_ := stream.read(1):
        row = bytearray(stream.read(stride))
        for at in range(stride):
            left, up = row[at - 3] if at >= 3 else 0, before[at]
            corner = before[at - 3] if at >= 3 else 0
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda value: abs(guess - value))
            row[at] = (row[at] + (0, left, up, (left + up) // 2, nearest)[filter_[0]]) % 256
        yield bytes(row)
        before = row


def difference(one: bytes, other: bytes) -> float:
    """Of two pictures, the mean over all numbers: 0 to 255."""
    (size, rows), (other_size, other_rows) = pixels(one), pixels(other)
    assert size == other_size
    both = zip(b"".join(rows), b"".join(other_rows), strict=True)
    return sum(abs(a - b) for a, b in both) / (3 * size[0] * size[1])


def photo(width: int = 64, height: int = 64) -> bytes:
    return png(width, height, lambda x, y: (x * 4 % 256, y * 4 % 256, 128))


# -- from text -------------------------------------------------------------------------


def test_pictures_are_made_from_text(sdk: OpenAI) -> None:
    answer = sdk.images.generate(model="pictures", prompt="a cat", n=3, response_format="b64_json")
    assert (answer.size, answer.output_format, answer.background) == ("64x64", "png", "opaque")
    assert answer.data is not None
    pictures = [base64.b64decode(each.b64_json or "") for each in answer.data]
    assert [pixels(each)[0] for each in pictures] == [(64, 64)] * 3
    assert len(set(pictures)) == 3
    assert answer.usage is not None
    assert answer.usage.input_tokens == len("acat") + 2


def test_a_seed_gives_the_same_picture_and_another_seed_another(sdk: OpenAI) -> None:
    (first,), (again,) = generate(sdk, seed=5), generate(sdk, seed=5)
    (other,) = generate(sdk, seed=6)
    (dog,) = generate(sdk, "a very big dog", seed=5)
    assert difference(first, again) < 1
    assert difference(first, other) > 5
    assert difference(first, dog) > 1


def test_a_picture_of_several_is_the_one_that_its_seed_makes_alone(sdk: OpenAI) -> None:
    several = generate(sdk, seed=5, n=3)
    for number, picture in enumerate(several):
        (alone,) = generate(sdk, seed=5 + number)
        assert difference(picture, alone) < 1


def test_eight_callers_at_once_get_what_each_would_get_alone(
    instance: Instance, sdk: OpenAI
) -> None:
    asked = [(f"picture {at % 4}", at % 4) for at in range(8)]
    alone = [generate(sdk, prompt, seed=seed)[0] for prompt, seed in asked[:4]]
    began = threading.Barrier(8)

    def call(ask: tuple[str, int]) -> bytes:
        began.wait()
        return generate(sdk, ask[0], seed=ask[1])[0]

    with ThreadPoolExecutor(8) as callers:
        together = list(callers.map(call, asked))
    for at, picture in enumerate(together):
        assert difference(picture, alone[at % 4]) < 1
    logs = instance.api("GET", "/services/pictures/logs").text
    assert "made 4 at 64x64" in logs


@pytest.mark.parametrize(
    ("format", "begins"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8\xff"), ("webp", b"RIFF")]
)
def test_pictures_come_in_the_format_that_is_asked_for(
    sdk: OpenAI, format: Any, begins: bytes
) -> None:
    (picture,) = generate(sdk, output_format=format, output_compression=50, size="96x64")
    assert picture.startswith(begins)


def test_a_stream_shows_the_picture_on_its_way(sdk: OpenAI) -> None:
    events = list(
        sdk.images.generate(
            model="pictures", prompt="a cat", stream=True, partial_images=3, extra_body={"seed": 5}
        )
    )
    kinds = [type(event) for event in events]
    assert kinds == [ImageGenPartialImageEvent] * 3 + [ImageGenCompletedEvent]
    for event in events:
        # As strictly as OpenAI's own are described.
        type(event).model_validate(event.model_dump(exclude_unset=True), strict=True)
    partial = [each for each in events if isinstance(each, ImageGenPartialImageEvent)]
    assert [event.partial_image_index for event in partial] == [0, 1, 2]
    pictures = [base64.b64decode(event.b64_json) for event in events]
    (whole,) = generate(sdk, seed=5)
    away = [difference(picture, whole) for picture in pictures]
    assert away[-1] < 1
    assert away[0] > away[2] > 1


# -- from pictures ---------------------------------------------------------------------


def edit(sdk: OpenAI, image: Any, **fields: Any) -> bytes:
    more = {name: fields.pop(name) for name in ("seed", "strength") if name in fields}
    answer = sdk.images.edit(
        model="pictures",
        image=image,
        prompt="a cat",
        response_format="b64_json",
        extra_body=more,
        **fields,
    )
    assert answer.data is not None
    return base64.b64decode(answer.data[0].b64_json or "")


def test_an_edit_begins_with_its_picture(sdk: OpenAI) -> None:
    before = photo()
    slight = edit(sdk, ("a.png", before), seed=3, strength=0.2)
    strong = edit(sdk, ("a.png", before), seed=3, strength=1.0)
    assert pixels(slight)[0] == (64, 64)
    assert difference(slight, strong) > 1
    other = edit(sdk, ("a.png", png(64, 64, lambda x, y: (255, 255, 255))), seed=3, strength=0.2)
    assert difference(slight, other) > 1


def test_an_edit_is_as_large_as_its_picture_or_as_is_asked_for(sdk: OpenAI) -> None:
    assert pixels(edit(sdk, ("a.png", photo(81, 64))))[0] == (80, 64)
    assert pixels(edit(sdk, ("a.png", photo()), size="96x128"))[0] == (96, 128)


@pytest.mark.parametrize(
    "mask",
    [
        png(64, 64, lambda x, y: (0, 0, 0, 255 if x < 32 else 0)),
        png(64, 64, lambda x, y: (0,) if x < 32 else (255,)),
    ],
    ids=["transparent", "white"],
)
def test_a_mask_says_what_changes_and_the_rest_stays_to_the_bit(sdk: OpenAI, mask: bytes) -> None:
    before = photo()
    after = edit(sdk, ("a.png", before), mask=("m.png", mask), seed=3)
    kept, made = pixels(before)[1], pixels(after)[1]
    assert [row[: 32 * 3] for row in made] == [row[: 32 * 3] for row in kept]
    assert all(row[32 * 3 :] != old[32 * 3 :] for row, old in zip(made, kept, strict=True))


def test_an_edit_streams_too(sdk: OpenAI) -> None:
    events = list(
        sdk.images.edit(
            model="pictures", image=("a.png", photo()), prompt="x", stream=True, partial_images=1
        )
    )
    kinds = [type(event) for event in events]
    assert kinds == [ImageEditPartialImageEvent, ImageEditCompletedEvent]


# -- what is refused -------------------------------------------------------------------


BOMB = png_of(60_000, 60_000, 2, zlib.compress(b"\0" * 1000))


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"prompt": ""}, "prompt", "invalid_request_error", "must say"),
        ({"prompt": "x" * 100}, "prompt", "context_length_exceeded", "102 tokens"),
        ({"size": "64x65"}, "size", "invalid_request_error", "multiples of 2"),
        ({"size": "1024x1024"}, "size", "invalid_request_error", "from 64 to 512"),
        ({"n": 11}, "n", "invalid_request_error", "1 to 10"),
        ({"n": 10, "size": "512x512", "extra_body": {"num_inference_steps": 16}}, "n",
         "invalid_request_error", "9 of them"),
        ({"extra_body": {"seed": -1}}, "seed", "invalid_request_error", "0 to"),
        ({"background": "transparent"}, "background", "invalid_request_error", "transparent"),
        ({"extra_body": {"negative_prompt": "x" * 100}}, "negative_prompt",
         "context_length_exceeded", "77"),
        ({"prompt": "x" * 100, "stream": True}, "prompt", "context_length_exceeded", "77"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused(
    sdk: OpenAI, fields: dict[str, Any], param: str, code: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(**{"model": "pictures", "prompt": "a cat", **fields})
    assert (caught.value.param, caught.value.code) == (param, code)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "empty"),
        (b"this is a text", "no PNG, JPEG or WebP"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "no PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG, JPEG or WebP"),
        (photo()[:200], "broken"),
        (BOMB, "too large"),
    ],
)
def test_what_is_no_good_picture_is_refused(sdk: OpenAI, image: bytes, words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        edit(sdk, ("a.png", image))
    assert caught.value.param == "image"


def test_a_mask_must_fit_its_picture_and_mark_something(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="of one size"):
        edit(sdk, ("a.png", photo()), mask=("m.png", photo(32, 64)))
    with pytest.raises(openai.BadRequestError, match="marks nothing"):
        edit(sdk, ("a.png", photo()), mask=("m.png", png(64, 64, lambda x, y: (0,))))
    with pytest.raises(openai.BadRequestError, match="takes 1 at most"):
        edit(sdk, [("a.png", photo()), ("b.png", photo())])
    with pytest.raises(openai.BadRequestError, match="leaves nothing to do"):
        edit(sdk, ("a.png", photo()), strength=0.01)


def test_after_all_that_the_same_process_makes_pictures(instance: Instance, sdk: OpenAI) -> None:
    (pid,) = instance.engine_pids()
    for image in (BOMB, b"text", photo()[:200]):
        with pytest.raises(openai.BadRequestError):
            edit(sdk, ("a.png", image))
    assert generate(sdk)
    assert instance.engine_pids() == [pid]


def test_nobody_reads_the_secret_of_a_replica_from_its_process(instance: Instance) -> None:
    (pid,) = instance.engine_pids()
    replica = only_replica(instance, "pictures")
    record: Json = json.loads(record_file(instance, replica).read_text())
    assert (record["pid"], len(record["secret"])) == (pid, 48)
    process = Path("/proc", str(pid))
    arguments, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
    # It is this process, and its environment can be read.
    assert replica.encode() in arguments
    assert b"HF_HUB_OFFLINE=1" in environment.split(b"\0")
    assert record["secret"].encode() not in arguments + environment


# -- callers who leave, and engines that die ---------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_when_the_caller_leaves_the_work_ends(
    instance: Instance, sdk: OpenAI, stream: bool
) -> None:
    before = left_off(instance)
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(
            f"{instance.url}/v1/images/generations",
            json={"model": "pictures", "prompt": "a cat", "stream": stream, **LONG},
            headers={"authorization": f"Bearer {sdk.api_key}"},
            timeout=4,
        )
    wait_for(lambda: left_off(instance) > before, "the engine to leave off", 60)


def left_off(instance: Instance) -> int:
    return str(instance.api("GET", "/services/pictures/logs").text).count("left off")


def test_an_engine_that_dies_is_told_as_such(instance: Instance, sdk: OpenAI) -> None:
    deployed(instance, "doomed", engine_args=["--max-side=512"])
    died: list[Exception] = []

    def call() -> None:
        try:
            sdk.images.generate(
                model="doomed",
                prompt="x",
                size=LONG["size"],
                extra_body={"num_inference_steps": 150},
            )
        except openai.APIError as error:
            died.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    (replica,) = instance.service("doomed")["status"]["replicas"]
    wait_for(lambda: busy(instance, replica["id"]), "the engine to work", 60)
    process_of(replica["id"]).kill()
    caller.join(120)
    (error,) = died
    assert isinstance(error, openai.InternalServerError)
    assert error.status_code in (502, 503)
    instance.api("DELETE", "/services/doomed")


def process_of(replica: str) -> psutil.Process:
    return next(
        process
        for process in psutil.process_iter(["cmdline"])
        if replica in (process.info["cmdline"] or ())
    )


def busy(instance: Instance, replica: str) -> bool:
    return process_of(replica).cpu_percent(0.5) > 50


# -- weights that are refused ------------------------------------------------------------


def test_a_pipeline_with_a_program_of_its_own_is_never_loaded(
    instance: Instance, pipeline: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(pipeline, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["my_unet", "MyUnet"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "unet" / "my_unet.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with instance.client() as client:
        body = {"name": "evil", "source": folder.as_uri(), "tasks": ["image"]}
        client.post("/models", body)
        client.post("/services", {"name": "evil", "model": "evil"})
    service = instance.await_state("evil", "failed")
    assert "my_unet" in service["status"]["message"]
    assert not (tmp_path / "ran").exists()


def test_a_picture_that_its_model_flags_is_refused_and_not_sent_black(
    instance: Instance, sdk: OpenAI, tmp_path: Path
) -> None:
    make_pipeline(instance, tmp_path / "strict", "strict")
    with instance.client() as client:
        source = (tmp_path / "strict").as_uri()
        client.post("/models", {"name": "strict", "source": source, "tasks": ["image"]})
    steps = ["--default-steps", "4"]
    deployed(instance, "checked", model="strict", engine_args=steps)
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(model="checked", prompt="a cat")
    assert caught.value.code == "content_policy_violation"
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(model="checked", prompt="a cat", stream=True, partial_images=2)
    assert caught.value.code == "content_policy_violation"
    unchecked = [*steps, "--safety-checker=off"]
    deployed(instance, "unchecked", model="strict", engine_args=unchecked)
    answer = sdk.images.generate(model="unchecked", prompt="a cat", response_format="b64_json")
    assert answer.data is not None
    picture = base64.b64decode(answer.data[0].b64_json or "")
    assert any(any(row) for row in pixels(picture)[1])


def test_a_checker_that_a_model_does_not_have_cannot_be_asked_for(instance: Instance) -> None:
    service = deployed(instance, "unheard", "failed", engine_args=["--safety-checker=on"])
    assert "the model has none" in service["status"]["message"]
