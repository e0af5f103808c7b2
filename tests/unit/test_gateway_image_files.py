"""Images behind signed addresses: who has one gets the image, until it ends."""

import errno
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest

from modelry.errors import ModelryError
from modelry.gateway import kept_files
from modelry.gateway.image_files import ImageFiles
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request
from modelry.sealing import Sealer

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 10
ANNA, BEN = "u-anna", "u-ben"
Disk = namedtuple("Disk", "total used free")


def always(*, make: bool) -> bytes:
    return b"k" * 32


def files(folder: Path, ttl_s: float = 60, most_bytes: int = 1 << 20) -> ImageFiles:
    return ImageFiles(folder / "images", always, ttl_s=ttl_s, most_bytes=most_bytes)


def asked(address: str, method: bytes = b"GET") -> Request:
    request = Request("", 0.0)
    request.method, request.target = method, address.encode()
    request.complete_head()
    return request


def read(kept: ImageFiles, address: str) -> bytes:
    with kept.open(asked(address)).file as file:
        return file.read()


def refusal(kept: ImageFiles, address: str, method: bytes = b"GET") -> Reply:
    with pytest.raises(Reply) as reply:
        kept.open(asked(address, method))
    return reply.value


def refused(kept: ImageFiles, address: str, method: bytes = b"GET") -> int:
    return refusal(kept, address, method).status


def file_of(folder: Path, address: str) -> Path:
    return folder / "images" / address.rpartition("/")[2].partition("?")[0]


def aged(folder: Path, *addresses: str) -> None:
    """Make them older than all else, the first the oldest."""
    for age, address in enumerate(reversed(addresses), 1):
        at = time.time() - age
        os.utime(file_of(folder, address), (at, at))


def test_an_image_is_served_under_its_address(tmp_path: Path) -> None:
    kept = files(tmp_path)
    for image, kind in ((PNG, b"png"), (b"\xff\xd8\xff-", b"jpeg"), (b"RIFF1234WEBP", b"webp")):
        opened = kept.open(asked(kept.keep(image, ANNA)))
        with opened.file as file:
            assert (file.read(), opened.size) == (image, len(image))
        assert b"content-type: image/" + kind in opened.lines
        assert b"nosniff" in opened.lines
    assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700
    with pytest.raises(ModelryError):
        kept.keep(b"<svg onload=alert(1)>", ANNA)


def test_nothing_of_an_address_can_be_changed(tmp_path: Path) -> None:
    kept = files(tmp_path)
    address, other = kept.keep(PNG, ANNA), kept.keep(PNG + b"2", ANNA)
    path, _, query = address.partition("?")
    expires = query.partition("&")[0]
    assert refused(kept, other.partition("?")[0] + "?" + query) == 403
    assert refused(kept, address.replace(expires, "expires=99999999999")) == 403
    assert refused(kept, path) == 404
    assert refused(kept, path + "?expires=1&signature=") == 403
    assert refused(kept, "/v1/images/files/..%2f..%2fsecret.key?" + query) == 404
    assert refused(kept, "/v1/images/files/../secret.key?" + query) == 404
    assert refused(kept, address, b"DELETE") == 405

    def another(*, make: bool) -> bytes:
        return b"o" * 32

    other_key = ImageFiles(tmp_path / "images", another, ttl_s=60, most_bytes=1)
    assert refused(other_key, address) == 403


@pytest.mark.parametrize("signature", ["%C3%A9", "%00", "A" * 64, "0" * 63, "0" * 64, "0" * 65])
def test_what_is_no_signature_is_refused(tmp_path: Path, signature: str) -> None:
    kept = files(tmp_path)
    address = kept.keep(PNG, ANNA).partition("signature=")[0] + "signature=" + signature
    assert refused(kept, address) == 403


def test_only_who_keeps_an_image_makes_the_key(tmp_path: Path) -> None:
    address = files(tmp_path).keep(PNG, ANNA)
    key_file = tmp_path / "secret.key"

    def key(*, make: bool) -> bytes:
        return Sealer(key_file).signing_key("images", make=make)

    kept = ImageFiles(tmp_path / "images", key, ttl_s=60, most_bytes=1 << 20)
    assert refused(kept, address) == 404
    assert not key_file.exists()
    assert read(kept, kept.keep(PNG, ANNA)) == PNG
    assert key_file.exists()


def test_an_address_ends_and_so_does_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = files(tmp_path, ttl_s=60)
    address = kept.keep(PNG, ANNA)
    kept.sweep()
    assert read(kept, address) == PNG
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    reply = refusal(kept, address)
    assert reply.status == 410
    assert b"has expired" in reply.body
    kept.sweep()
    assert list((tmp_path / "images").iterdir()) == []


def test_an_image_that_was_removed_is_not_said_to_have_expired(tmp_path: Path) -> None:
    kept = files(tmp_path)
    address = kept.keep(PNG, ANNA)
    file_of(tmp_path, address).unlink()
    reply = refusal(kept, address)
    assert reply.status == 410
    assert b"removed before its time" in reply.body


def test_the_oldest_make_room_before_another_is_kept(tmp_path: Path) -> None:
    kept = files(tmp_path, most_bytes=3 * len(PNG))
    addresses = [kept.keep(PNG, ANNA) for _ in range(3)]
    aged(tmp_path, *addresses)
    last = kept.keep(PNG, ANNA)
    left = sum(each.stat().st_size for each in (tmp_path / "images").iterdir())
    assert left <= 3 * len(PNG)
    assert refused(kept, addresses[0]) == 410
    assert [read(kept, address) for address in (addresses[2], last)] == [PNG, PNG]


def test_what_other_gateways_have_kept_counts_at_the_next_sweep(tmp_path: Path) -> None:
    one, other = (files(tmp_path, most_bytes=4 * len(PNG)) for _ in range(2))
    addresses = [kept.keep(PNG, ANNA) for kept in (one, other, one, one, one, other, other)]
    assert [read(one, address) for address in addresses] == [PNG] * 7
    aged(tmp_path, *addresses)
    one.sweep()
    assert [refused(one, address) for address in addresses[:3]] == [410] * 3
    assert read(one, addresses[-1]) == PNG


def test_nobody_pushes_out_who_keeps_less(tmp_path: Path) -> None:
    kept = files(tmp_path, most_bytes=4 * len(PNG))
    few = kept.keep(PNG, BEN)
    aged(tmp_path, few)
    many = [kept.keep(PNG, ANNA) for _ in range(20)]
    assert read(kept, few) == PNG
    assert read(kept, many[-1]) == PNG


def test_an_image_that_is_larger_than_all_may_be_is_not_kept(tmp_path: Path) -> None:
    kept = files(tmp_path, most_bytes=2 * len(PNG))
    address = kept.keep(PNG, ANNA)
    with pytest.raises(ModelryError):
        kept.keep(PNG * 3, ANNA)
    assert read(kept, address) == PNG


def test_a_disk_that_is_nearly_full_takes_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = files(tmp_path)
    free = kept_files.DISK_LEFT_BYTES + len(PNG)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(free, 0, free))
    kept.keep(PNG, ANNA)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(free, 0, free - 1))
    with pytest.raises(ModelryError, match="nearly full"):
        kept.keep(PNG, ANNA)


class Unreadable:
    """An entry of a folder whose sector the disk has lost."""

    name = path = "lost"

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_file_that_cannot_be_looked_at_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = files(tmp_path, ttl_s=60)
    old = file_of(tmp_path, kept.keep(PNG, ANNA))
    os.utime(old, (1, 1))
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: [Unreadable(), *scandir(path)])
    kept.sweep()
    assert not old.exists()
    assert read(kept, kept.keep(PNG, ANNA)) == PNG


def test_a_disk_that_takes_no_write_is_no_accident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    kept = files(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(ModelryError, match="Read-only file system"):
        kept.keep(PNG, ANNA)
