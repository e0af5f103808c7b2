"""Weights brought in by hand: piece by piece, checked, over restarts, and only by their owner."""

import hashlib
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from modelry.access.credentials import digest
from modelry.client import Json
from tests.support.instance import ADMIN_TOKEN, Instance, running
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf, safetensors

OTHER_TOKEN = "pat-" + "o" * 40
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b"{}" * 3000,
    "empty.txt": b"",
    "model.safetensors": safetensors(3_000_000, 1),
}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(Instance(tmp_path_factory.mktemp("uploads") / "data")) as started:
        add_user(started)
        yield started


@pytest.fixture(autouse=True)
def nothing_stays(instance: Instance) -> Iterator[None]:
    yield
    for upload in instance.api("GET", "/uploads", params={"all": "1"}).json()["data"]:
        assert instance.api("DELETE", f"/uploads/{upload['id']}").status_code == 204
    assert list((instance.paths.weights / "uploads").iterdir()) == []


def add_user(instance: Instance) -> None:
    """Somebody who is no operator; there is no call that makes one yet."""
    database = sqlite3.connect(instance.paths.database, timeout=10)
    with database:
        database.execute(
            "INSERT INTO users (id, name, operator, created_at) "
            "VALUES ('u-00000000000a', 'other', 0, CURRENT_TIMESTAMP)"
        )
        database.execute(
            "INSERT INTO access_tokens (id, user_id, name, hash, tail, created_at) "
            "VALUES ('tok_other', 'u-00000000000a', 'other', ?, 'oooo', CURRENT_TIMESTAMP)",
            (digest(OTHER_TOKEN),),
        )
    database.close()


def announce(
    instance: Instance, name: str, files: dict[str, bytes], *, digests: bool = True
) -> httpx2.Response:
    told = [
        {
            "name": each,
            "size_bytes": len(data),
            **({"sha256": hashlib.sha256(data).hexdigest()} if digests else {}),
        }
        for each, data in files.items()
    ]
    return instance.api("POST", "/uploads", json={"name": name, "files": told})


def begin(instance: Instance, name: str, files: dict[str, bytes], *, digests: bool = True) -> str:
    response = announce(instance, name, files, digests=digests)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def put(
    instance: Instance, id_: str, name: str, data: bytes, offset: int = 0, token: str = ADMIN_TOKEN
) -> httpx2.Response:
    path = f"/uploads/{id_}/files/{name}"
    return instance.api("PUT", path, params={"offset": offset}, content=data, token=token)


def send_all(instance: Instance, id_: str, files: dict[str, bytes], piece: int = 900_000) -> None:
    for name, data in files.items():
        for at in range(0, len(data), piece):
            assert put(instance, id_, name, data[at : at + piece], at).status_code == 200


def complete(instance: Instance, id_: str) -> httpx2.Response:
    return instance.api("POST", f"/uploads/{id_}/complete")


def received(instance: Instance, id_: str) -> dict[str, int]:
    files = instance.api("GET", f"/uploads/{id_}").json()["files"]
    return {file["name"]: file["received_bytes"] for file in files}


def refused(response: httpx2.Response, status: int, code: str) -> Json:
    assert response.status_code == status, response.text
    error: Json = response.json()["error"]
    assert error["code"] == code
    return error


def test_what_was_sent_becomes_a_model_whose_weights_are_here(instance: Instance) -> None:
    offered = {**FILES, "onnx/model.onnx": b"onnx", "pytorch_model.bin": b"\x80\x04", ".git": b"x"}
    id_ = begin(instance, "whole", offered)
    assert received(instance, id_) == dict.fromkeys(sorted(FILES), 0)
    send_all(instance, id_, FILES)
    response = complete(instance, id_)
    assert response.status_code == 201, response.text
    (variant,) = response.json()["variants"]
    assert (variant["format"], variant["weights"]) == ("safetensors", "here")
    assert variant["source"] == f"upload://{variant['sha256']}"
    tree = instance.paths.weights / "trees" / variant["sha256"]
    assert {place.name: place.read_bytes() for place in tree.iterdir()} == FILES
    assert instance.api("GET", "/models/whole").json()["variants"] == [variant]
    assert instance.api("GET", f"/uploads/{id_}").status_code == 404


def test_a_gguf_file_is_one_file(instance: Instance) -> None:
    data = gguf(50_000)
    id_ = begin(instance, "one.gguf", {"one.gguf": data}, digests=False)
    send_all(instance, id_, {"one.gguf": data})
    (variant,) = complete(instance, id_).json()["variants"]
    assert variant["sha256"] == hashlib.sha256(data).hexdigest()
    assert (variant["format"], variant["size_bytes"]) == ("gguf", 50_000)


def test_a_piece_is_taken_only_where_the_last_one_ended(instance: Instance) -> None:
    data = gguf(50_000)
    id_ = begin(instance, "pieces", {"a.gguf": data})
    assert put(instance, id_, "a.gguf", data[:20_000]).json()["received_bytes"] == 20_000
    for offset in (0, 19_999, 20_001, 50_000):
        error = refused(put(instance, id_, "a.gguf", data[:10], offset), 409, "upload_offset")
        assert "20000 bytes" in error["message"]
        assert "from byte 20000" in error["hint"]
    refused(put(instance, id_, "a.gguf", data[20_000:] + b"x", 20_000), 422, "invalid_request")
    assert received(instance, id_) == {"a.gguf": 20_000}
    refused(complete(instance, id_), 409, "upload_incomplete")
    range_ = {"content-range": "bytes 20000-49999/50000"}
    path = f"/uploads/{id_}/files/a.gguf"
    assert instance.api("PUT", path, content=data[20_000:], headers=range_).status_code == 200
    assert complete(instance, id_).status_code == 201


@pytest.mark.parametrize(
    "range_", ["bytes 0-9/11", "bytes 9-0/50000", "bytes 0-8/50000", "items 0-9/50000", "x"]
)
def test_a_range_that_does_not_fit_is_refused(instance: Instance, range_: str) -> None:
    id_ = begin(instance, "range", {"a.gguf": gguf(50_000)})
    path = f"/uploads/{id_}/files/a.gguf"
    response = instance.api("PUT", path, content=b"0" * 10, headers={"content-range": range_})
    refused(response, 422, "invalid_request")
    refused(instance.api("PUT", path, content=b"0" * 10), 422, "invalid_request")


def test_what_had_come_before_a_cut_stays(instance: Instance) -> None:
    data = gguf(1_500_000)
    id_ = begin(instance, "cut", {"a.gguf": data})
    split = urlsplit(instance.url)
    with socket.create_connection((str(split.hostname), int(split.port or 0))) as wire:
        head = (
            f"PUT /api/v1/uploads/{id_}/files/a.gguf?offset=0 HTTP/1.1\r\nhost: x\r\n"
            f"authorization: Bearer {ADMIN_TOKEN}\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        wire.sendall(head.encode() + data[:1_200_000])
        wait_for(lambda: received(instance, id_)["a.gguf"], "the first of it to be kept")

    def go_on() -> bool:
        at = received(instance, id_)["a.gguf"]
        assert at >= 1024 * 1024
        return put(instance, id_, "a.gguf", data[at:], at).status_code == 200

    wait_for(go_on, "the rest to be taken")
    assert complete(instance, id_).status_code == 201


def test_two_senders_at_once_do_not_mix(instance: Instance) -> None:
    data = gguf(4_000_000)
    id_ = begin(instance, "both", {"a.gguf": data})
    while (at := received(instance, id_)["a.gguf"]) < len(data):
        with ThreadPoolExecutor(4) as pool:
            end = at + 700_000
            answers = list(
                pool.map(lambda _: put(instance, id_, "a.gguf", data[at:end], at), range(4))  # noqa: B023
            )
        assert {answer.status_code for answer in answers} <= {200, 409}
    assert complete(instance, id_).status_code == 201


def test_a_file_that_is_not_what_was_announced_is_sent_again(instance: Instance) -> None:
    data, other = gguf(50_000, 1), gguf(50_000, 2)
    id_ = begin(instance, "digest", {"a.gguf": data})
    send_all(instance, id_, {"a.gguf": other})
    error = refused(complete(instance, id_), 422, "wrong_checksum")
    assert hashlib.sha256(other).hexdigest() in error["message"]
    assert received(instance, id_) == {"a.gguf": 0}
    send_all(instance, id_, {"a.gguf": data})
    assert complete(instance, id_).status_code == 201


def test_a_file_that_is_not_what_its_name_says_is_refused(instance: Instance) -> None:
    id_ = begin(instance, "damaged", {"a.gguf": b"MZ" * 5000})
    send_all(instance, id_, {"a.gguf": b"MZ" * 5000})
    refused(complete(instance, id_), 422, "damaged_weights")
    assert instance.api("GET", "/models/damaged").status_code == 404


def test_a_digest_alone_opens_nothing(instance: Instance) -> None:
    data = gguf(60_000, 7)
    id_ = begin(instance, "private", {"a.gguf": data})
    send_all(instance, id_, {"a.gguf": data})
    (variant,) = complete(instance, id_).json()["variants"]
    body = {"name": "stolen", "source": variant["source"]}
    for token in (ADMIN_TOKEN, OTHER_TOKEN):
        response = instance.api("POST", "/models", json=body, token=token)
        assert "upload" in refused(response, 422, "invalid_request")["message"]
    told = [{"name": "b.gguf", "size_bytes": len(data), "sha256": variant["sha256"]}]
    again = instance.api("POST", "/uploads", json={"name": "claimed", "files": told})
    assert again.json()["files"][0]["received_bytes"] == 0
    refused(complete(instance, again.json()["id"]), 409, "upload_incomplete")


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        (["pytorch_model.bin"], "unsafe_weights", "run a program"),
        (["config.json"], "invalid_request", "no weights"),
        (["a.gguf", "b.gguf"], "invalid_request", "2 GGUF files"),
        (["../a.gguf"], "invalid_request", "no path inside"),
        (["/a.gguf"], "invalid_request", "no path inside"),
        (["a/./b.gguf"], "invalid_request", "no path inside"),
        (["a\\b.gguf"], "invalid_request", "no path inside"),
        (["x" * 300 + ".gguf"], "invalid_request", "no path inside"),
        (["a.gguf", "a.gguf"], "invalid_request", "twice"),
        (["a/b.gguf", "a"], "invalid_request", "twice"),
    ],
)
def test_names_that_are_of_no_use_are_refused(
    instance: Instance, files: list[str], code: str, words: str
) -> None:
    told = [{"name": name, "size_bytes": 10} for name in files]
    response = instance.api("POST", "/uploads", json={"name": "names", "files": told})
    assert words in refused(response, 422, code)["message"]


def test_what_would_not_fit_or_is_too_much_is_refused(instance: Instance) -> None:
    free = shutil.disk_usage(instance.paths.weights).free
    told = [{"name": "a.gguf", "size_bytes": free // 2 + 1}]
    body = {"name": "large", "files": told}
    assert instance.api("POST", "/uploads", json=body).status_code == 201
    # What the first will still send counts.
    refused(instance.api("POST", "/uploads", json=body), 507, "insufficient_storage")
    for _ in range(7):
        begin(instance, "small", {"a.gguf": b"x"})
    refused(announce(instance, "small", {"a.gguf": b"x"}), 409, "too_many_uploads")
    refused(announce(instance, "smollm2-135m-instruct", {"a.gguf": b"x"}), 409, "model_name_taken")


def test_an_upload_is_its_owners(instance: Instance) -> None:
    id_ = begin(instance, "mine", {"a.gguf": gguf(5000)})
    other = {"token": OTHER_TOKEN}
    refused(instance.api("GET", f"/uploads/{id_}", **other), 404, "upload_not_found")
    refused(instance.api("DELETE", f"/uploads/{id_}", **other), 404, "upload_not_found")
    refused(put(instance, id_, "a.gguf", b"x", token=OTHER_TOKEN), 404, "upload_not_found")
    refused(instance.api("POST", f"/uploads/{id_}/complete", **other), 404, "upload_not_found")
    assert instance.api("GET", "/uploads", **other).json()["data"] == []
    refused(instance.api("GET", "/uploads?all=1", **other), 403, "permission_denied")
    told = [{"name": "a.gguf", "size_bytes": 10}]
    theirs = instance.api("POST", "/uploads", json={"name": "x", "files": told}, **other).json()
    assert instance.api("GET", f"/uploads/{theirs['id']}").status_code == 200
    # An operator may look and drop, and not make somebody else's model.
    refused(put(instance, theirs["id"], "a.gguf", b"x"), 404, "upload_not_found")


def test_an_upload_goes_on_after_the_control_plane_was_killed(instance: Instance) -> None:
    data = safetensors(2_000_000, 3)
    files = {"config.json": b"{}", "model.safetensors": data}
    id_ = begin(instance, "restarted", files)
    send_all(instance, id_, {"config.json": b"{}"})
    assert put(instance, id_, "model.safetensors", data[:1_100_000]).status_code == 200
    control = instance.pid_of("control")
    os.kill(control, 9)
    wait_for(lambda: instance.api("GET", "/me").status_code == 200, "the control plane to be back")
    assert received(instance, id_) == {"config.json": 2, "model.safetensors": 1_100_000}
    assert put(instance, id_, "model.safetensors", data[1_100_000:], 1_100_000).status_code == 200
    assert complete(instance, id_).status_code == 201


def test_weights_that_are_lost_can_be_uploaded_again(instance: Instance) -> None:
    data = gguf(70_000, 9)
    id_ = begin(instance, "lost", {"a.gguf": data})
    send_all(instance, id_, {"a.gguf": data})
    first = complete(instance, id_).json()
    refused(announce(instance, "lost", {"a.gguf": data}), 409, "model_name_taken")
    (instance.paths.weights / "blobs" / first["variants"][0]["sha256"]).unlink()
    id_ = begin(instance, "lost", {"a.gguf": data})
    send_all(instance, id_, {"a.gguf": data})
    again = complete(instance, id_).json()
    assert again == first
    assert again["variants"][0]["weights"] == "here"


def test_two_completions_make_one_model(instance: Instance) -> None:
    data = gguf(90_000, 11)
    id_ = begin(instance, "once", {"a.gguf": data})
    send_all(instance, id_, {"a.gguf": data})
    with ThreadPoolExecutor(3) as pool:
        answers = [each.status_code for each in pool.map(lambda _: complete(instance, id_), "abc")]
    assert answers.count(201) == 1
    assert set(answers) <= {201, 404, 409}


def test_the_state_on_disk_names_no_path(instance: Instance) -> None:
    id_ = begin(instance, "paths", {"sub/model.safetensors": safetensors(100), "sub/a.json": b"{}"})
    send_all(instance, id_, {"sub/a.json": b"{}"})
    folder: Path = instance.paths.weights / "uploads" / id_
    assert {place.name for place in folder.iterdir()} <= {"upload.json", "0", "1"}
