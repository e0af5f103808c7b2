"""The playground of a service's page in a real browser: the real chat model, and played engines."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Locator, Page, Request, expect

from tests.support.browser import cookie_of, sign_in
from tests.support.data_plane import Replica
from tests.support.instance import Instance
from tests.support.pictures import png
from tests.support.waiting import wait_for

# 20 ms of silence: 8 kHz, 8 bits.
SOUND = b"RIFF\xc4\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\xa0\0\0\0"
SOUND += b"\x80" * 160


def panel(page: Page, instance: Instance, name: str, task: str) -> Locator:
    """The form of a task on a service's page, for an operator who has signed in."""
    page.goto(f"{instance.url}/services/{name}")
    form = page.locator(f"form[data-task={task}]")
    if not form.is_visible():
        page.locator("#playground summary", has_text=task.capitalize()).click()
    return form


@pytest.fixture
def signed_in(page: Page, shared: Instance) -> Page:
    sign_in(page, shared)
    expect(page.get_by_role("heading", name="Services")).to_be_visible()
    return page


@pytest.fixture
def played(
    shared: Instance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[str, Replica]]]:
    """Services on a fake engine of its own each; `do` is what it does with every request."""
    made: list[tuple[str, Replica]] = []

    def make(task: str, **do: Any) -> tuple[str, Replica]:
        replica = Replica(tmp_path_factory.mktemp("played"), tcp=True, default=do)
        port = replica.address.address.rpartition(":")[2]
        endpoint = {"url": f"http://127.0.0.1:{port}/v1", "api_key": replica.secret}
        name = f"played-{task}"
        made.append((name, replica))
        with shared.client() as client:
            client.post("/services", {"name": name, "endpoint": endpoint, "tasks": [task]})
        return name, replica

    yield make
    for name, replica in made:
        with shared.client() as client:
            client.delete(f"/services/{name}")
        replica.close()


def asked(replica: Replica) -> dict[str, Any]:
    """The one request that an engine got: its path, and its body's fields."""
    (request,) = replica.requests
    body: dict[str, Any] = json.loads(request["body"])
    return {"path": request["head"].split(" ")[1], **body}


def event(value: dict[str, Any]) -> str:
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n"


# -- the real chat model -----------------------------------------------------


def test_a_conversation_is_had_and_goes_on(shared: Instance, signed_in: Page) -> None:
    form = panel(signed_in, shared, "demo", "chat")
    form.get_by_text("Options").click()
    form.get_by_label("Tokens at most").fill("12")
    form.get_by_label("Seed").fill("7")
    bodies: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if "/v1/" in request.url:
            bodies.append(json.loads(request.post_data or ""))

    signed_in.on("request", note)
    message = form.get_by_label("Message", exact=True)
    said = form.locator(".said")
    message.fill("Name a colour.")
    message.press("Enter")
    expect(form.get_by_role("status")).to_contain_text("12 written in")
    expect(message).to_have_value("")
    first = said.nth(1).text_content()
    assert first
    assert said.nth(0).text_content() == "Name a colour."
    message.fill("And another?")
    form.get_by_role("button", name="Send").click()
    expect(said).to_have_count(4)
    expect(form.get_by_role("button", name="Send")).to_be_enabled()
    assert [each["content"] for each in bodies[1]["messages"]] == [
        "Name a colour.",
        first,
        "And another?",
    ]
    form.get_by_role("button", name="Start anew").click()
    expect(said).to_have_count(0)


def test_an_answer_comes_as_it_is_written_and_can_be_cancelled(
    shared: Instance, signed_in: Page
) -> None:
    form = panel(signed_in, shared, "demo", "chat")
    form.get_by_text("Options").click()
    form.get_by_label("Tokens at most").fill("2000")
    form.get_by_label("Message", exact=True).fill("Count from one to a thousand in words.")
    form.get_by_role("button", name="Send").click()
    # It stands there before it is complete.
    expect(form.locator(".said").nth(1)).not_to_be_empty()
    form.get_by_role("button", name="Cancel").click()
    expect(form.get_by_role("status")).to_have_text("cancelled")
    expect(form.get_by_role("button", name="Send")).to_be_enabled()
    expect(form.get_by_role("alert")).to_be_hidden()


def test_a_text_is_gone_on_with(shared: Instance, signed_in: Page) -> None:
    form = panel(signed_in, shared, "demo", "completion")
    form.get_by_text("Options").click()
    form.get_by_label("Tokens at most").fill("8")
    form.get_by_role("button", name="Complete").click()
    expect(form.get_by_role("status")).to_contain_text("8 written in")
    text = form.locator(".said").text_content()
    assert text is not None
    assert text.startswith("Once upon a time")
    assert len(text) > len("Once upon a time")


def test_what_the_service_refuses_is_said_and_the_message_stays(
    shared: Instance, signed_in: Page
) -> None:
    form = panel(signed_in, shared, "demo", "chat")
    form.get_by_text("Options").click()
    form.get_by_label("Temperature").fill("0.5")
    form.get_by_text("System message, images").click()
    form.get_by_label("Images").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": png()}
    )
    message = form.get_by_label("Message", exact=True)
    message.fill("What is this?")
    form.get_by_role("button", name="Send").click()
    expect(form.get_by_role("alert")).to_contain_text("image")
    expect(message).to_have_value("What is this?")
    expect(form.locator(".said")).to_have_count(0)


def test_a_service_that_cannot_be_called_has_no_playground(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    name, _ = played("rerank", do="scores")
    signed_in.goto(f"{shared.url}/services/{name}")
    expect(signed_in.get_by_role("heading", name="Try it")).to_be_visible()
    with shared.client() as client:
        client.post(f"/services/{name}/stop")
    shared.await_state(name, "stopped")
    signed_in.reload()
    expect(signed_in.get_by_role("heading", name=name)).to_be_visible()
    expect(signed_in.get_by_role("heading", name="Try it")).to_have_count(0)


# -- every other task --------------------------------------------------------


def test_a_picture_is_made_and_shown(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    def made(kind: str, width: int) -> str:
        b64 = base64.b64encode(png(width, 20)).decode()
        return event({"type": f"image_generation.{kind}", "b64_json": b64, "output_format": "png"})

    frames = [made("partial_image", 20), made("partial_image", 30), made("completed", 40)]
    name, replica = played("image", do="stream", frames=frames)
    form = panel(signed_in, shared, name, "image")
    form.get_by_label("Prompt").fill("a gull")
    form.get_by_text("Options, edit a picture").click()
    form.get_by_label("Size").fill("64x64")
    form.get_by_label("Steps").fill("5")
    form.get_by_role("button", name="Make").click()
    expect(form.get_by_role("status")).to_contain_text("40x20 pixels")
    expect(form.get_by_alt_text("a gull")).to_be_visible()
    with signed_in.expect_download() as download:
        form.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "image.png"
    assert Path(download.value.path()).read_bytes() == png(40, 20)
    sent = asked(replica)
    assert sent["path"] == "/v1/images/generations"
    assert (sent["prompt"], sent["size"], sent["num_inference_steps"]) == ("a gull", "64x64", 5)
    assert "seed" not in sent


def test_a_picture_is_edited(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    b64 = base64.b64encode(png(8, 8)).decode()
    # An engine that knows no streams of images answers whole.
    name, replica = played("image", do="answer", text=json.dumps({"data": [{"b64_json": b64}]}))
    form = panel(signed_in, shared, name, "image")
    form.get_by_label("Prompt").fill("at night")
    form.get_by_text("Options, edit a picture").click()
    form.get_by_label("Start from a picture").set_input_files(
        {"name": "gull.png", "mimeType": "image/png", "buffer": png(16, 16)}
    )
    form.get_by_role("button", name="Make").click()
    expect(form.get_by_role("status")).to_contain_text("8x8 pixels")
    (request,) = replica.requests
    assert "/v1/images/edits" in request["head"]
    assert png(16, 16).decode("latin-1") in request["body"]


def test_texts_are_compared(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    vectors = [[1.0, 0.0], [0.6, 0.8]]
    data = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    name, replica = played("embedding", do="answer", text=json.dumps({"data": data}))
    form = panel(signed_in, shared, name, "embedding")
    form.get_by_label("Texts to compare").fill("a gull\n\n  <b>a car</b>  \n")
    form.get_by_role("button", name="Compare").click()
    expect(form.get_by_role("status")).to_have_text("2 vectors of 2 numbers")
    assert form.locator("td").all_text_contents() == [
        *("1. a gull", "1.000", "0.600"),
        *("2. <b>a car</b>", "0.600", "1.000"),
    ]
    assert asked(replica)["input"] == ["a gull", "<b>a car</b>"]


def test_documents_are_ranked(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    results = [{"index": at, "relevance_score": score} for at, score in ((1, 0.75), (0, 0.25))]
    name, replica = played("rerank", do="answer", text=json.dumps({"results": results}))
    form = panel(signed_in, shared, name, "rerank")
    form.get_by_role("button", name="Rank").click()
    expect(form.locator("td").first).to_be_visible()
    assert form.locator("td").all_text_contents() == [
        *("0.7500", "A gull glides."),
        *("0.2500", "A car drives."),
    ]
    assert asked(replica)["query"] == "a sea bird"


def test_a_text_is_read_aloud(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    text = SOUND.decode("latin-1")
    head = f"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: {len(SOUND)}\r\n\r\n"
    name, replica = played("speech", do="raw", pieces=[head, text], end="next")
    form = panel(signed_in, shared, name, "speech")
    form.get_by_label("Speed").fill("1.5")
    form.get_by_role("button", name="Speak").click()
    player = form.locator("audio")
    expect(player).to_be_visible()
    wait_for(
        lambda: player.evaluate("(audio) => audio.duration") == pytest.approx(0.02),
        "the sound to be read",
    )
    sent = asked(replica)
    assert (sent["voice"], sent["speed"], sent["response_format"]) == ("alloy", 1.5, "wav")


def test_a_recording_is_written_down(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    words = [{"type": "transcript.text.delta", "delta": each} for each in ("Say ", "this.")]
    done = {"type": "transcript.text.done", "text": "Say this."}
    name, replica = played("transcription", do="stream", frames=[event(e) for e in (*words, done)])
    form = panel(signed_in, shared, name, "transcription")
    form.get_by_role("button", name="Write down").click()
    expect(form.get_by_role("alert")).to_have_text("choose a file, or record something")
    assert replica.requests == []
    form.get_by_label("Recording").set_input_files(
        {"name": "speech.wav", "mimeType": "audio/wav", "buffer": SOUND}
    )
    form.get_by_role("button", name="Write down").click()
    expect(form.locator(".said")).to_have_text("Say this.")
    (request,) = replica.requests
    assert 'filename="speech.wav"' in request["body"]
    assert SOUND.decode("latin-1") in request["body"]


def test_a_microphone_is_recorded(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    name, replica = played("transcription", do="answer", text='{"text": "beep"}')
    form = panel(signed_in, shared, name, "transcription")
    form.get_by_role("button", name="Record", exact=True).click()
    stop = form.get_by_role("button", name="Stop and send")
    expect(stop).to_be_visible()
    stop.click()
    expect(form.locator(".said")).to_have_text("beep")
    (request,) = replica.requests
    assert 'filename="recording.webm"' in request["body"]


# -- its key -----------------------------------------------------------------


def playground_key(instance: Instance, cookie: str, csrf: str) -> httpx2.Response:
    return httpx2.post(
        f"{instance.url}/services/demo/playground",
        cookies={"modelry_session": cookie},
        headers={"x-csrf-token": csrf},
    )


def csrf_of(instance: Instance, cookie: str) -> str:
    page = httpx2.get(f"{instance.url}/services/demo", cookies={"modelry_session": cookie}).text
    return page.partition('data-csrf="')[2].partition('"')[0]


def test_its_key_is_the_session_s_own_for_one_service_and_ends_with_it(shared: Instance) -> None:
    cookie = cookie_of(shared)
    csrf = csrf_of(shared, cookie)
    answer = playground_key(shared, cookie, csrf)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    key = answer.json()["key"]
    # Asked for again it is the same, not one more.
    assert playground_key(shared, cookie, csrf).json() == answer.json()
    with shared.client() as client:
        (listed,) = [each for each in client.list("/keys") if each["key"].endswith(key[-4:])]
        path = client.get("/services/demo")["access_path"]
    assert listed["services"] == [path]
    assert listed["expires_at"] is not None
    assert listed["name"] == "playground of demo"
    # A session of another browser's has another.
    other = cookie_of(shared)
    assert playground_key(shared, other, csrf_of(shared, other)).json()["key"] != key

    def call(model: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        headers = {"authorization": f"Bearer {key}"}
        url = f"{shared.url}/v1/chat/completions"
        return httpx2.post(url, json=body, headers=headers, timeout=30).status_code

    assert call(path) == 200
    assert call("elsewhere") in (403, 404)
    for each in (cookie, other):
        httpx2.post(
            f"{shared.url}/logout",
            data={"csrf": csrf_of(shared, each)},
            cookies={"modelry_session": each},
        )
    assert call(path) == 401
    with shared.client() as client:
        assert listed["id"] not in [each["id"] for each in client.list("/keys")]


def test_its_key_is_given_to_nobody_without_the_session_s_token(shared: Instance) -> None:
    cookie = cookie_of(shared)
    assert playground_key(shared, cookie, "").status_code == 403
    assert playground_key(shared, cookie, "0" * 64).status_code == 403
    assert playground_key(shared, "no such session", "").headers["location"] == "/login"
