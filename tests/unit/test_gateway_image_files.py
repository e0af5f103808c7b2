"""Images behind signed addresses: who has one gets the image, until it ends."""

import os
import time
from pathlib import Path

import pytest

from modelry.errors import ModelryError
from modelry.gateway.image_files import ImageFiles
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 10


def files(folder: Path, ttl_s: float = 60, most_bytes: int = 1 << 20) -> ImageFiles:
    return ImageFiles(folder / "images", lambda: b"k" * 32, ttl_s=ttl_s, most_bytes=most_bytes)


def asked(address: str, method: bytes = b"GET") -> Request:
    request = Request("", 0.0)
    request.method, request.target = method, address.encode()
    request.complete_head()
    return request


def refused(kept: ImageFiles, address: str, method: bytes = b"GET") -> int:
    with pytest.raises(Reply) as reply:
        kept.answer(asked(address, method))
    return reply.value.status


def test_an_image_is_served_under_its_address(tmp_path: Path) -> None:
    kept = files(tmp_path)
    for image, kind in ((PNG, b"png"), (b"\xff\xd8\xff-", b"jpeg"), (b"RIFF1234WEBP", b"webp")):
        address = kept.keep(image)
        answer = kept.answer(asked(address))
        assert (answer.status, answer.body) == (200, image)
        assert b"content-type: image/" + kind in answer.lines
        assert b"nosniff" in answer.lines
    assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700
    with pytest.raises(ModelryError):
        kept.keep(b"<svg onload=alert(1)>")


def test_nothing_of_an_address_can_be_changed(tmp_path: Path) -> None:
    kept = files(tmp_path)
    address, other = kept.keep(PNG), kept.keep(PNG + b"2")
    path, _, query = address.partition("?")
    expires = query.partition("&")[0]
    assert refused(kept, other.partition("?")[0] + "?" + query) == 403
    assert refused(kept, address.replace(expires, "expires=99999999999")) == 403
    assert refused(kept, path) == 404
    assert refused(kept, path + "?expires=1&signature=") == 403
    assert refused(kept, "/v1/images/files/..%2f..%2fsecret.key?" + query) == 404
    assert refused(kept, "/v1/images/files/../secret.key?" + query) == 404
    assert refused(kept, address, b"DELETE") == 405
    other_key = ImageFiles(tmp_path / "images", lambda: b"o" * 32, ttl_s=60, most_bytes=1)
    assert refused(other_key, address) == 403


def test_an_address_ends_and_so_does_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = files(tmp_path, ttl_s=60)
    address = kept.keep(PNG)
    kept.sweep()
    assert kept.answer(asked(address)).status == 200
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert refused(kept, address) == 410
    kept.sweep()
    assert list((tmp_path / "images").iterdir()) == []


def test_the_oldest_go_where_there_are_too_many(tmp_path: Path) -> None:
    kept = files(tmp_path, most_bytes=2 * len(PNG))
    addresses = [kept.keep(PNG) for _ in range(4)]
    for age, address in enumerate(reversed(addresses)):
        name = address.rpartition("/")[2].partition("?")[0]
        at = time.time() - age
        os.utime(tmp_path / "images" / name, (at, at))
    kept.sweep()
    assert [refused(kept, address) for address in addresses[:2]] == [410, 410]
    assert [kept.answer(asked(address)).status for address in addresses[2:]] == [200, 200]
