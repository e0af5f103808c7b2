"""The playground in a real browser, every task but chat: on played engines."""

import base64
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import cookie_of
from tests.support.data_plane import Replica
from tests.support.instance import Instance
from tests.support.pictures import png
from tests.support.playground import asked, event, panel
from tests.support.waiting import wait_for

# 20 ms of silence: 8 kHz, 8 bits.
SOUND = b"RIFF\xc4\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\xa0\0\0\0"
SOUND += b"\x80" * 160


def test_a_text_is_gone_on_with(shared: Instance, signed_in: Page) -> None:
    form = panel(signed_in, shared, "demo", "completion")
    form.get_by_label("Tokens at most").fill("8")
    form.get_by_role("button", name="Complete").click()
    expect(form.get_by_role("status")).to_contain_text("8 tokens · the first after")
    expect(form.get_by_role("status")).to_contain_text("cut at the most tokens")
    text = form.locator(".said").text_content()
    assert text is not None
    assert text.startswith("Once upon a time")
    assert len(text) > len("Once upon a time")


def test_a_service_that_cannot_be_called_is_to_be_started_first(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    name, _ = played("rerank", do="scores")
    with shared.client() as client:
        client.post(f"/services/{name}/stop")
    shared.await_state(name, "stopped")
    signed_in.goto(f"{shared.url}/services/{name}/playground")
    expect(signed_in.get_by_text("Start the service to try it.")).to_be_visible()
    expect(signed_in.locator("#play")).to_have_count(0)
    # It notices by itself when that has been done.
    with shared.client() as client:
        client.post(f"/services/{name}/start")
    expect(signed_in.get_by_role("button", name="Rank")).to_be_visible()


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
    form.get_by_label("Size").fill("64x64")
    form.get_by_label("Steps").fill("5")
    form.get_by_role("button", name="Make").click()
    expect(form.get_by_text("40x20 pixels in")).to_be_visible()
    expect(form.get_by_role("status")).to_have_text(re.compile(r"1 picture in [\d.]+ s"))
    expect(form.get_by_alt_text("a gull")).to_be_visible()
    with signed_in.expect_download() as download:
        form.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "image.png"
    assert Path(download.value.path()).read_bytes() == png(40, 20)
    sent = asked(replica)
    assert sent["path"] == "/v1/images/generations"
    assert (sent["prompt"], sent["size"], sent["num_inference_steps"]) == ("a gull", "64x64", 5)
    assert "seed" not in sent


def test_pictures_stay_in_a_gallery_with_what_they_were_made_with(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    def made(*pictures: bytes) -> str:
        data = [{"b64_json": base64.b64encode(each).decode()} for each in pictures]
        return json.dumps({"data": data})

    name, replica = played("image", do="answer", text=made(png(8, 8)))
    form = panel(signed_in, shared, name, "image")
    make = form.get_by_role("button", name="Make")
    prompt = form.get_by_label("Prompt")
    seed = form.get_by_label("Seed", exact=True)
    prompt.fill("a gull " * 40)
    seed.fill("7")
    make.click()
    expect(form.get_by_text(re.compile("8x8 pixels in .* · seed 7"))).to_be_visible()
    alt = form.get_by_role("img").get_attribute("alt") or ""
    assert alt.startswith("a gull a gull")
    assert len(alt) == 100
    prompt.fill("another")
    seed.fill("")
    for refusal, said in (
        ({"status": 400, "text": '{"error": {"message": "No gulls."}}'}, "No gulls."),
        ({"text": '{"data": []}'}, "no picture came"),
        ({"text": made(b"no picture")}, "the picture that came cannot be shown"),
    ):
        replica.now(do="answer", **refusal)
        make.click()
        expect(form.locator("[data-refusal]")).to_have_text(said)
        assert form.get_by_role("img").count() == 1
    replica.now(do="answer", text=made(png(9, 9), png(10, 10)))
    form.get_by_label("Pictures").fill("2")
    make.click()
    expect(form.get_by_role("status")).to_contain_text("2 pictures in")
    expect(form.locator("figure")).to_have_count(3)
    # The newest come first; what an older one was made with comes back into the form.
    widths = form.get_by_role("img").evaluate_all("(all) => all.map((each) => each.naturalWidth)")
    assert widths == [10, 9, 8]
    form.get_by_role("button", name="Use these settings").last.click()
    expect(prompt).to_have_value(("a gull " * 40).strip())
    expect(seed).to_have_value("7")


def test_a_picture_is_edited(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    b64 = base64.b64encode(png(8, 8)).decode()
    # An engine that knows no streams of images answers whole.
    name, replica = played("image", do="answer", text=json.dumps({"data": [{"b64_json": b64}]}))
    form = panel(signed_in, shared, name, "image")
    form.get_by_label("Prompt").fill("at night")
    form.get_by_label("Start from a picture").set_input_files(
        {"name": "gull.png", "mimeType": "image/png", "buffer": png(16, 16)}
    )
    form.get_by_role("button", name="Make").click()
    expect(form.get_by_text("8x8 pixels")).to_be_visible()
    expect(form.get_by_text("gull.png")).to_be_visible()
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
    heat = form.locator("td.number").evaluate_all("(all) => all.map((each) => each.className)")
    assert heat == [f"number heat heat-{shade}" for shade in (5, 3, 3, 5)]


def test_of_many_texts_the_nearest_are_listed(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    # On a quarter of a circle: the first two are alike, all others a degree or more apart.
    degrees = [0.0, 0.0, *(float(at + sum(range(at)) / 10) for at in range(1, 20))]
    vectors = [[math.cos(math.radians(each)), math.sin(math.radians(each))] for each in degrees]
    data = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    name, _ = played("embedding", do="answer", text=json.dumps({"data": data}))
    form = panel(signed_in, shared, name, "embedding")
    texts = [f"text{'x' * 200}" if at == 1 else f"text {at}" for at in range(len(vectors))]
    form.get_by_label("Texts to compare").fill("\n".join(texts))
    form.get_by_role("button", name="Compare").click()
    expect(form.locator("caption")).to_have_text("The 20 nearest of 210 pairs")
    rows = form.locator("tbody tr")
    expect(rows).to_have_count(20)
    shown = rows.first.locator("td").all_text_contents()
    assert shown[:2] == ["1.000", "1. text 0"]
    assert shown[2] == f"2. text{'x' * 92}…"
    assert rows.first.locator("[title]").get_attribute("title") == f"2. {texts[1]}"


def test_more_texts_than_can_be_compared_are_refused_in_words(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    name, replica = played("embedding", do="answer", text="{}")
    form = panel(signed_in, shared, name, "embedding")
    field = form.get_by_label("Texts to compare")
    field.fill("a text\n" * 257)
    form.get_by_role("button", name="Compare").click()
    refusal = "these are 257 texts; 256 at most are compared here"
    expect(form.locator("[data-refusal]")).to_have_text(refusal)
    field.fill(" \n\n ")
    form.get_by_role("button", name="Compare").click()
    complaint = "write something under “Texts to compare, one on each line”"
    expect(form.get_by_role("alert").first).to_have_text(complaint)
    assert replica.requests == []


def test_a_text_that_is_refused_is_called_by_its_number(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    error = {"message": "input[1]: It is too long.", "code": "context_length_exceeded"}
    name, _ = played("embedding", do="answer", status=400, text=json.dumps({"error": error}))
    form = panel(signed_in, shared, name, "embedding")
    form.get_by_role("button", name="Compare").click()
    expect(form.locator("[data-refusal]")).to_have_text("text 2: It is too long. Give it less.")


def test_numbers_stay_in_view_beside_a_line_that_cannot_be_broken(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    data = [{"index": at, "embedding": [1.0, 0.0]} for at in range(2)]
    name, _ = played("embedding", do="answer", text=json.dumps({"data": data}))
    form = panel(signed_in, shared, name, "embedding")
    form.get_by_label("Texts to compare").fill("x" * 3000 + "\n" + "y" * 3000)
    form.get_by_role("button", name="Compare").click()
    expect(form.locator("td").nth(2)).to_be_in_viewport(ratio=1)
    assert form.locator(".flush").evaluate("(it) => it.scrollWidth <= it.clientWidth")


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
    expect(form.get_by_role("status")).to_have_text(re.compile(r"2 documents in \d+(\.\d+)? s"))


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
    expect(form.get_by_role("status")).to_have_text(re.compile(r"0 s of sound in \d+(\.\d+)? s"))
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
    expect(form.locator("[data-refusal]")).to_have_text("choose a file, or record something")
    assert replica.requests == []
    form.get_by_label("Recording").set_input_files(
        {"name": "speech.wav", "mimeType": "audio/wav", "buffer": SOUND}
    )
    form.get_by_role("button", name="Write down").click()
    expect(form.locator(".said")).to_have_text("Say this.")
    (request,) = replica.requests
    assert 'filename="speech.wav"' in request["body"]
    assert SOUND.decode("latin-1") in request["body"]


def test_a_transcript_has_times_where_they_are_asked_for(
    shared: Instance, signed_in: Page, played: Callable[..., tuple[str, Replica]]
) -> None:
    segments = [
        {"start": 0.0, "end": 1.25, "text": " <i>Say</i>"},
        {"start": 61.5, "end": 62.0, "text": " this."},
    ]
    text = json.dumps({"text": "Say this.", "segments": segments})
    name, replica = played("transcription", do="answer", text=text)
    form = panel(signed_in, shared, name, "transcription")
    form.get_by_label("Times").select_option("With times")
    form.get_by_label("Recording").set_input_files(
        {"name": "<img src=x onerror=alert(1)>.wav", "mimeType": "audio/wav", "buffer": SOUND}
    )
    form.get_by_role("button", name="Write down").click()
    expect(form.locator("dd")).to_have_text(["<i>Say</i>", "this."])
    expect(form.locator("dt")).to_have_text(["00:00.0 – 00:01.2", "01:01.5 – 01:02.0"])
    (request,) = replica.requests
    assert "verbose_json" in request["body"]
    assert "timestamp_granularities[]" in request["body"]


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
    cookies = {"modelry_session": cookie}
    page = httpx2.get(f"{instance.url}/services/demo/playground", cookies=cookies).text
    return page.partition('name="csrf" content="')[2].partition('"')[0]


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
    assert listed["for_session"] is True
    hidden = json.loads(shared.cli("keys", "list", "--json").stdout)
    shown = json.loads(shared.cli("keys", "list", "--all", "--json").stdout)
    assert listed["id"] in {each["id"] for each in shown}
    assert listed["id"] not in {each["id"] for each in hidden}
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
