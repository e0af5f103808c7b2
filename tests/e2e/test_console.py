"""The console in a real browser."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx2
from fastapi.routing import APIRoute
from playwright.sync_api import Locator, Page, Route, expect

from modelry.console import pages
from tests.support.browser import cookie_of, sign_in
from tests.support.instance import ADMIN_PASSWORD, MODEL, Instance
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf, safetensors


def test_the_operator_signs_in_and_finds_out_how_to_call_a_service(
    shared: Instance, page: Page
) -> None:
    sign_in(page, shared)
    page.get_by_role("link", name="demo").click()
    access_path = shared.service("demo")["access_path"]
    expect(page.get_by_role("heading", name="demo")).to_be_visible()
    expect(page.get_by_text("running", exact=True).first).to_be_visible()
    expect(page.locator("dd code", has_text=access_path).first).to_be_visible()
    expect(page.get_by_role("heading", name="Authorization")).to_be_visible()
    with shared.client() as client:
        wanted = [each["code"] for each in client.list("/services/demo/examples")]
    shown = [code.strip() for code in page.locator(".copyable code").all_text_contents()]
    assert shown == [code.strip() for code in wanted]


def test_a_copy_button_copies_the_example(shared: Instance, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page, shared)
    page.goto(f"{shared.url}/services/demo")
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator(".copyable code").first.text_content()


def test_a_service_is_stopped_and_started_from_its_page(shared: Instance, page: Page) -> None:
    sign_in(page, shared)
    page.goto(f"{shared.url}/services/demo")
    page.get_by_role("button", name="Stop").click()
    shared.await_state("demo", "stopped")
    page.get_by_role("button", name="Start").click()
    shared.await_state("demo", "running")
    # The page looks again by itself while a service is on its way.
    expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=15_000)


def test_a_wrong_password_is_refused_in_words(shared: Instance, page: Page) -> None:
    sign_in(page, shared, "not the password")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.goto(f"{shared.url}/services/demo")
    assert page.url.endswith("/login")


def test_signing_out_ends_the_session(shared: Instance, page: Page) -> None:
    sign_in(page, shared)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    page.goto(f"{shared.url}/services")
    assert page.url.endswith("/login")


def test_a_service_on_endpoints_elsewhere_has_a_page_without_their_keys(shared: Instance) -> None:
    endpoint = {"url": "http://127.0.0.1:9/v1", "model": "big", "api_key": "sk-of-the-endpoint"}
    with shared.client() as client:
        client.post("/services", {"name": "hosted", "endpoint": endpoint, "tasks": ["rerank"]})
    cookies = {"modelry_session": cookie_of(shared)}
    page = httpx2.get(f"{shared.url}/services/hosted", cookies=cookies)
    overview = httpx2.get(f"{shared.url}/services", cookies=cookies)
    with shared.client() as client:
        client.delete("/services/hosted")
    assert page.status_code == overview.status_code == 200
    for shown in ("http://127.0.0.1:9/v1", "big", "stands on 1 endpoint", "/v1/rerank"):
        assert shown in page.text
    assert "big" in overview.text
    assert "sk-of-the-endpoint" not in page.text
    assert "sealed" not in page.text


def test_a_form_without_the_session_s_token_changes_nothing(shared: Instance) -> None:
    cookies = {"modelry_session": cookie_of(shared)}
    for csrf in ("", "0" * 64, "é"):
        answer = httpx2.post(
            f"{shared.url}/services/demo/stop", data={"csrf": csrf}, cookies=cookies
        )
        assert answer.status_code == 403
    api = f"{shared.url}/api/v1/services/demo/stop"
    assert httpx2.post(api, cookies=cookies).status_code == 403
    assert httpx2.get(f"{shared.url}/api/v1/me", cookies=cookies).status_code == 200
    assert shared.service("demo")["status"]["state"] == "running"


def test_a_sign_in_form_from_another_site_is_refused(shared: Instance) -> None:
    answer = httpx2.post(
        f"{shared.url}/login",
        data={"name": "admin", "password": ADMIN_PASSWORD},
        headers={"sec-fetch-site": "cross-site"},
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_pages_carry_a_strict_policy(shared: Instance) -> None:
    answer = httpx2.get(f"{shared.url}/login")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_guessing_passwords_is_slowed_down(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance().start()
    form = {"name": "admin", "password": "guess"}

    def guess(_: int) -> int:
        return httpx2.post(f"{instance.url}/login", data=form).status_code

    with ThreadPoolExecutor(15) as pool:
        answers = sorted(pool.map(guess, range(15)))
    assert answers == [401] * 10 + [429] * 5


def test_every_page_sends_a_stranger_to_the_sign_in_or_stands_on_the_list(
    shared: Instance,
) -> None:
    """Public: the sign-in page, what it is drawn with, and the probes."""
    public = {"/login", "/static/{name}"}
    nothing = cast(Any, None)
    routes = pages.router(*[nothing] * 12).routes
    checked = 0
    for route in routes:
        assert isinstance(route, APIRoute)
        if route.path in public:
            continue
        for method in route.methods or ():
            url = shared.url + route.path.replace("{name}", "demo")
            answer = httpx2.request(method, url, follow_redirects=False)
            target = answer.headers.get("location")
            assert (answer.status_code, target) in ((303, "/login"), (303, "/services"))
            if target == "/services":
                assert route.path == "/"
            checked += 1
    assert checked >= 8
    assert shared.service("demo")["status"]["state"] == "running"


# -- uploads -----------------------------------------------------------------


def upload_of(instance: Instance, name: str) -> list[dict[str, Any]]:
    with instance.client() as client:
        return [each for each in client.list("/uploads") if each["name"] == name]


def _none(instance: Instance, name: str) -> bool:
    return upload_of(instance, name) == []


def row(page: Page, text: str) -> Locator:
    return page.locator("tbody tr", has_text=text)


def test_a_folder_is_uploaded_from_the_models_page(
    shared: Instance, page: Page, tmp_path: Path
) -> None:
    folder = tmp_path / "Small Model"
    (folder / ".git").mkdir(parents=True)
    weights = safetensors(20_000_000, 41)
    files = {"config.json": b"{}", "model.safetensors": weights, "model.bin": b"\x80"}
    for name, data in {**files, ".git/config": b"x"}.items():
        (folder / name).write_bytes(data)
    sign_in(page, shared)
    page.get_by_role("link", name="Models").click()
    expect(row(page, MODEL)).to_contain_text("here")
    page.get_by_label("or a folder").set_input_files(folder)
    page.get_by_label("What it does").select_option("embedding")
    page.get_by_role("button", name="Upload").click()
    expect(row(page, "small-model")).to_contain_text("here")
    expect(row(page, "small-model")).to_contain_text("yours")
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
    sign_in(page, shared)
    page.goto(f"{shared.url}/models")
    offsets: list[str] = []

    def one_piece_only(route: Route) -> None:
        offsets.append(route.request.url.rpartition("=")[2])
        if offsets[-1] == "0":
            route.continue_()
        else:
            route.fulfill(status=422, json={"error": {"code": "x", "message": "the disk is full"}})

    page.route("**/files/**", one_piece_only)
    page.get_by_label("Files").set_input_files(tmp_path / "broken.gguf")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("the disk is full")
    (upload,) = upload_of(shared, "broken")
    assert upload["files"][0]["received_bytes"] == 8 * 1024 * 1024
    page.unroute("**/files/**")
    page.get_by_role("button", name="Go on").click()
    expect(row(page, "broken")).to_contain_text("here")
    with shared.client() as client:
        (variant,) = client.get("/models/broken")["variants"]
    assert variant["sha256"] == hashlib.sha256(data).hexdigest()


def test_an_upload_is_cancelled_or_dropped_and_leaves_nothing(
    shared: Instance, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "gone.gguf").write_bytes(gguf(10_000_000, 43))
    sign_in(page, shared)
    for name in ("cancelled", "dropped"):
        page.goto(f"{shared.url}/models")
        page.route("**/files/**offset=8388608", lambda route: None)
        page.get_by_label("Files").set_input_files(tmp_path / "gone.gguf")
        page.get_by_label("Name of the model").fill(name)
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("status")).to_contain_text("8.4 of 10.0 MB")
        if name == "cancelled":
            page.get_by_role("button", name="Cancel").click()
            expect(page.get_by_role("button", name="Upload")).to_be_enabled()
        else:
            page.once("dialog", lambda dialog: dialog.accept())
            page.reload()
            row(page, name).get_by_role("button", name="Drop").click()
            expect(row(page, name)).to_have_count(0)
        page.unroute_all(behavior="ignoreErrors")
        wait_for(partial(_none, shared, name), "the upload to be dropped")


def test_what_is_wrong_with_the_files_is_said_on_the_page(
    shared: Instance, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x80")
    sign_in(page, shared)
    page.goto(f"{shared.url}/models")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("choose a file")
    page.get_by_label("Files").set_input_files(tmp_path / "a.bin")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("run a program")


def test_a_browser_uploads_only_with_the_session_s_token(shared: Instance) -> None:
    cookies = {"modelry_session": cookie_of(shared)}
    body = {"name": "foreign", "files": [{"name": "a.gguf", "size_bytes": 1}]}
    answer = httpx2.post(f"{shared.url}/api/v1/uploads", json=body, cookies=cookies)
    assert answer.status_code == 403
    assert upload_of(shared, "foreign") == []
