"""The console's static files: whole, named by what is in them, and licensed."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from fastapi import Request

from modelry import console
from modelry.console.assets import Assets
from modelry.errors import NotFound

STATIC = Path(console.__file__).parent / "static"
VENDOR = STATIC / "vendor"


def request(accepted: str = "") -> Request:
    return Request({"type": "http", "headers": [(b"accept-encoding", accepted.encode())]})


def test_vendored_files_are_what_was_brought() -> None:
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert found == listed


def test_every_vendored_package_has_its_licence() -> None:
    for folder in VENDOR.iterdir():
        if folder.is_dir():
            assert (folder / "LICENSE").stat().st_size > 200


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_a_module_imports_files_that_there_are(path: Path) -> None:
    for name in re.findall(r'(?:from|import)\s*\(?"([^"]+)"', path.read_text()):
        assert name.startswith("./"), f"{name}: absolute addresses have another version"
        assert (path.parent / name).is_file(), name


def test_an_address_changes_with_what_it_names() -> None:
    assets = Assets()
    assert re.fullmatch(r"/static/[0-9a-f]{12}/console\.css", assets.url("console.css"))
    assert assets.version == Assets().version
    with pytest.raises(KeyError):
        assets.url("nothing.js")


def test_a_file_is_kept_for_ever_under_its_own_version_alone() -> None:
    assets = Assets()
    ours = assets.answer(request(), assets.version, "words.js")
    older = assets.answer(request(), "0" * 12, "words.js")
    assert "immutable" in ours.headers["cache-control"]
    assert older.headers["cache-control"] == "no-store"
    assert ours.body == older.body == (STATIC / "words.js").read_bytes()


def test_files_are_compressed_for_who_takes_it() -> None:
    assets = Assets()
    answer = assets.answer(request("gzip, br"), assets.version, "shell.js")
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(answer.body)) == (STATIC / "shell.js").read_bytes()
    assert "content-encoding" not in assets.answer(request("br"), "x", "shell.js").headers


@pytest.mark.parametrize(
    "name", ["nothing.js", "../pages.py", "vendor/SHA256SUMS", "vendor/htmx/LICENSE", ""]
)
def test_nothing_else_is_given_out(name: str) -> None:
    with pytest.raises(NotFound):
        Assets().answer(request(), "x", name)


def test_the_stylesheet_has_every_part_in_order() -> None:
    css = bytes(Assets().answer(request(), "x", "console.css").body).decode()
    parts = sorted((STATIC.parent / "styles").glob("*.css"))
    places = [css.index(part.read_text()) for part in parts]
    assert places == sorted(places)


def test_an_icon_is_a_drawing_that_says_nothing() -> None:
    drawing = Assets().icon("copy", 15)
    assert drawing.startswith('<svg class="icon" width="15"')
    assert 'aria-hidden="true"' in drawing
    assert drawing.endswith("</svg>")
