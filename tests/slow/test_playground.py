"""Every task but chat is tried in the playground as a person would: real models, a real browser.

Chat is in `tests/e2e`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.slow.conftest import running
from tests.support.browser import fresh_page, running_browser
from tests.support.instance import Instance
from tests.support.playground import enter, ready
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(1800)

ANSWER_MS = 120_000
SENTENCE = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def instance(make_slow_instance: Callable[[], Instance]) -> Instance:
    started = make_slow_instance().start()
    running(started, "minilm", model="all-minilm-l6-v2")
    running(started, "emoji", model="emoji-diffusion-64")
    running(started, "voice", model="hibari-en")
    running(started, "ears", model="whisper-tiny.en")
    return started


@pytest.fixture(scope="module")
def recording(instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("said") / "said.wav"
    speech = instance.openai(instance.key(), timeout=300).audio.speech
    said = speech.create(model="voice", voice="alloy", input=SENTENCE, response_format="wav")
    file.write_bytes(said.read())
    return file


@pytest.fixture(scope="module")
def page(instance: Instance, recording: Path) -> Iterator[Page]:
    """Of a browser whose microphone hears the recording."""
    with running_browser(recording) as browser, fresh_page(browser) as page:
        yield enter(page, instance)


def panel(page: Page, instance: Instance, name: str) -> Locator:
    page.goto(f"{instance.url}/services/{name}/playground")
    return ready(page)


def test_a_picture_is_made_and_made_anew_from_itself(
    instance: Instance, page: Page, tmp_path: Path
) -> None:
    form = panel(page, instance, "emoji")
    form.get_by_label("Prompt").fill("red heart")
    form.get_by_label("Steps").fill("20")
    form.get_by_label("Seed", exact=True).fill("1")
    form.get_by_role("button", name="Make").click()
    pictures = form.get_by_text("64x64 pixels")
    expect(pictures).to_have_count(1, timeout=ANSWER_MS)
    with page.expect_download() as download:
        form.get_by_role("link", name="Download").click()
    file = tmp_path / "heart.png"
    download.value.save_as(file)
    assert file.read_bytes().startswith(b"\x89PNG")
    form.get_by_label("Prompt").fill("blue heart")
    form.get_by_label("Start from a picture").set_input_files(file)
    form.get_by_role("button", name="Make").click()
    expect(form.get_by_alt_text("blue heart")).to_be_visible(timeout=ANSWER_MS)
    expect(pictures).to_have_count(2, timeout=ANSWER_MS)


def test_what_the_image_model_cannot_do_is_said(instance: Instance, page: Page) -> None:
    form = panel(page, instance, "emoji")
    form.get_by_label("Prompt").fill("red heart")
    form.get_by_label("Size").fill("65x64")
    form.get_by_role("button", name="Make").click()
    expect(form.locator("[data-refusal]")).to_contain_text("size", timeout=ANSWER_MS)


def test_alike_texts_are_alike(instance: Instance, page: Page) -> None:
    form = panel(page, instance, "minilm")
    form.get_by_role("button", name="Compare").click()
    expect(form.get_by_role("status")).to_have_text("3 vectors of 384 numbers", timeout=ANSWER_MS)
    cells = [cell or "" for cell in form.locator("td").all_text_contents()]
    gull_and_bird, gull_and_car = float(cells[2]), float(cells[3])
    assert gull_and_bird > gull_and_car + 0.2


def test_the_document_that_answers_comes_first(
    instance: Instance, page: Page, reranker: Path
) -> None:
    model = {"name": "tiny-reranker", "source": f"file://{reranker}", "tasks": ["rerank"]}
    assert instance.api("POST", "/models", json=model).status_code == 201
    running(instance, "judge", model="tiny-reranker")
    form = panel(page, instance, "judge")
    form.get_by_role("button", name="Rank").click()
    expect(form.locator("td")).to_have_count(4, timeout=ANSWER_MS)
    assert form.locator("td").nth(1).text_content() == "A gull glides."


def test_a_text_is_read_aloud(instance: Instance, page: Page) -> None:
    form = panel(page, instance, "voice")
    form.get_by_role("button", name="Speak").click()
    player = form.locator("audio")
    expect(player).to_be_visible(timeout=ANSWER_MS)

    def played() -> bool:
        heard: bool = player.evaluate("(audio) => audio.currentTime > 0.5")
        return heard

    wait_for(played, "the text to be heard")


def test_a_recording_is_written_down(instance: Instance, page: Page, recording: Path) -> None:
    form = panel(page, instance, "ears")
    form.get_by_label("Recording").set_input_files(recording)
    form.get_by_role("button", name="Write down").click()
    expect(form.locator(".said")).to_contain_text("brown fox", timeout=ANSWER_MS)


def test_what_the_microphone_heard_is_written_down(instance: Instance, page: Page) -> None:
    form = panel(page, instance, "ears")
    form.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(6_000)  # Of speech: a browser records in real time.
    form.get_by_role("button", name="Stop and send").click()
    expect(form.locator(".said")).to_contain_text("fox", timeout=ANSWER_MS)
