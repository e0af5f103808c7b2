"""Bringing weights in from a browser: files and folders, piece by piece."""

import base64
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Page, Route, expect

from tests.support.browser import cookie_of
from tests.support.console import signed_in_page
from tests.support.instance import Instance
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf, safetensors


def upload_of(instance: Instance, name: str) -> list[dict[str, Any]]:
    with instance.client() as client:
        return [each for each in client.list("/uploads") if each["name"] == name]


def _none(instance: Instance, name: str) -> bool:
    return upload_of(instance, name) == []


def test_a_folder_is_uploaded_from_the_models_page(
    shared: Instance, page: Page, tmp_path: Path
) -> None:
    folder = tmp_path / "Small Model"
    (folder / ".git").mkdir(parents=True)
    weights = safetensors(20_000_000, 41)
    files = {"config.json": b"{}", "model.safetensors": weights, "model.bin": b"\x80"}
    for name, data in {**files, ".git/config": b"x"}.items():
        (folder / name).write_bytes(data)
    signed_in_page(page, shared)
    page.get_by_role("link", name="Models").click()
    page.get_by_role("link", name="Add a model").click()
    page.get_by_label("or a folder").set_input_files(folder)
    page.get_by_label("What it does").last.select_option("embedding")
    page.get_by_role("button", name="Upload", exact=True).click()
    page.wait_for_url("**/models/small-model")
    expect(page.locator("[data-variant=default] [data-state=here]")).to_be_visible()
    expect(page.get_by_text("Yours")).to_be_visible()
    with shared.client() as client:
        model = client.get("/models/small-model")
    assert model["tasks"] == ["embedding"]
    (variant,) = model["variants"]
    del files["model.bin"]
    assert {file["name"]: file["sha256"] for file in variant["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    assert upload_of(shared, "small-model") == []


def test_an_upload_that_broke_off_goes_on_with_the_same_button(
    shared: Instance, page: Page, tmp_path: Path
) -> None:
    data = gguf(10_000_000, 42)
    (tmp_path / "broken.gguf").write_bytes(data)
    signed_in_page(page, shared)
    page.goto(f"{shared.url}/add-model")
    offsets: list[str] = []

    def one_piece_only(route: Route) -> None:
        offsets.append(route.request.url.rpartition("=")[2])
        if offsets[-1] == "0":
            route.continue_()
        else:
            route.fulfill(status=422, json={"error": {"code": "x", "message": "the disk is full"}})

    page.route("**/files/**", one_piece_only)
    page.get_by_label("Files", exact=True).set_input_files(tmp_path / "broken.gguf")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("the disk is full")
    (upload,) = upload_of(shared, "broken")
    assert upload["files"][0]["received_bytes"] == 8 * 1024 * 1024
    page.unroute("**/files/**")
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/models/broken")
    expect(page.locator("[data-variant=default] [data-state=here]")).to_be_visible()
    with shared.client() as client:
        (variant,) = client.get("/models/broken")["variants"]
    assert variant["sha256"] == hashlib.sha256(data).hexdigest()


def test_an_upload_is_cancelled_or_dropped_and_leaves_nothing(
    shared: Instance, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "gone.gguf").write_bytes(gguf(10_000_000, 43))
    signed_in_page(page, shared)
    for name in ("cancelled", "dropped"):
        page.goto(f"{shared.url}/add-model")
        page.route("**/files/**offset=8388608", lambda route: None)
        page.get_by_label("Files", exact=True).set_input_files(tmp_path / "gone.gguf")
        page.get_by_label("Name of the model").fill(name)
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.locator("[data-progress]")).to_contain_text("8.4 of 10.0 MB")
        if name == "cancelled":
            page.get_by_role("button", name="Cancel").click()
            expect(page.get_by_role("button", name="Upload", exact=True)).to_be_enabled()
        else:
            page.once("dialog", lambda dialog: dialog.accept())
            page.goto(f"{shared.url}/models")
            under_way = page.locator(f"[data-upload={name}]")
            expect(under_way).to_contain_text("8.39 MB of 10 MB")
            under_way.get_by_role("button", name="Drop").click()
            expect(page.get_by_text("The upload of dropped is dropped")).to_be_visible()
            expect(under_way).to_have_count(0)
        page.unroute_all(behavior="ignoreErrors")
        wait_for(partial(_none, shared, name), "the upload to be dropped")


def test_what_is_wrong_with_the_files_is_said_on_the_page(
    shared: Instance, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x80")
    signed_in_page(page, shared)
    page.goto(f"{shared.url}/add-model")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Choose a file")
    page.get_by_label("Files", exact=True).set_input_files(tmp_path / "a.bin")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("run a program")


def test_a_browser_uploads_only_with_the_session_s_token(shared: Instance) -> None:
    cookies = {"modelry_session": cookie_of(shared)}
    body = {"name": "foreign", "files": [{"name": "a.gguf", "size_bytes": 1}]}
    answer = httpx2.post(f"{shared.url}/api/v1/uploads", json=body, cookies=cookies)
    assert answer.status_code == 403
    assert upload_of(shared, "foreign") == []


def test_what_is_dropped_on_the_page_is_uploaded(
    shared: Instance, page: Page, tmp_path: Path
) -> None:
    signed_in_page(page, shared).goto(f"{shared.url}/add-model")
    # A browser makes no such event of its own, so a page's script does.
    page.evaluate(
        """(text) => {
          const given = new DataTransfer();
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          given.items.add(new File([bytes], "fallen.gguf"));
          document.querySelector("[data-drop]").dispatchEvent(
            new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(gguf(100_000, 44)).decode(),
    )
    expect(page.locator("[data-picked]")).to_have_text("1 file, 0.1 MB")
    page.get_by_role("button", name="Upload", exact=True).click()
    page.wait_for_url("**/models/fallen")
    with shared.client() as client:
        client.delete("/models/fallen")
