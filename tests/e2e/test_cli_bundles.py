"""`modelry bundle`: a model of a hub carried to where no network leads, and called there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelry.catalog.cards import load_cards
from tests.support.calls import ask
from tests.support.hub import Hub
from tests.support.instance import MODEL, Instance, running, share_weights

BLOB = str(load_cards()[MODEL].default_variant.sha256)


@pytest.fixture(scope="module")
def hub(weights_cache: Path) -> Iterator[Hub]:
    served = Hub()
    served.add("org/smol", {"smol-Q4_1.gguf": (weights_cache / "blobs" / BLOB).read_bytes()})
    yield served
    served.close()


@pytest.fixture(scope="module")
def bundle(hub: Hub, weights_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model of the hub, and of one of the catalogue: of the same file, which is in it once."""
    folder = tmp_path_factory.mktemp("export")
    share_weights(weights_cache, folder / "data")
    file = folder / "models.tar"
    with running(Instance(folder / "data", MODELRY_HF_ENDPOINT=hub.url)) as instance:
        instance.api("POST", "/models", json={"name": "smol", "source": "hf://org/smol"})
        absent = instance.cli("bundle", "export", "smol", "-o", str(file))
        assert absent.returncode == 1
        assert "modelry models fetch smol" in absent.stderr
        assert list(folder.glob("models.tar*")) == []
        instance.deploy("smol", "smol")
        done = instance.cli("bundle", "export", "smol", MODEL, "-o", str(file))
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{file}\n"
        again = instance.cli("bundle", "export", "smol", "-o", str(file))
        assert "already" in again.stderr
    size = (weights_cache / "blobs" / BLOB).stat().st_size
    assert size < file.stat().st_size < size + 10_000
    assert [place.name for place in folder.glob("models.tar*")] == ["models.tar"]
    return file


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Instance]:
    """Without weights, without a network, and with proxies that lead nowhere."""
    settings = {
        "MODELRY_OFFLINE": "true",
        "MODELRY_HF_ENDPOINT": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    }
    folder = tmp_path_factory.mktemp("offline")
    with running(Instance(folder / "data", **settings)) as instance:
        yield instance


def test_imported_models_are_deployed_without_a_network(
    hub: Hub, bundle: Path, offline: Instance
) -> None:
    seen = len(hub.requests)
    for _ in range(2):
        done = offline.cli("bundle", "import", str(bundle))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["smol", MODEL]
    commit = hub.repos["org/smol"].branches["main"]
    (variant,) = offline.api("GET", "/models/smol").json()["variants"]
    assert variant["source"] == f"hf://org/smol@{commit}"
    assert (variant["weights"], variant["revision"]) == ("here", commit)
    offline.deploy("carried", "smol")
    offline.deploy("catalogued", MODEL)
    key = offline.key()
    assert ask(offline, key, "carried")
    assert ask(offline, key, "catalogued")
    assert len(hub.requests) == seen


def test_what_is_wrong_is_said_while_the_rest_is_still_being_sent(
    bundle: Path, offline: Instance, tmp_path: Path
) -> None:
    data = bytearray(bundle.read_bytes())
    at = data.index(b'"version": 1')
    data[at : at + 12] = b'"version": 9'
    (tmp_path / "later.tar").write_bytes(data)
    done = offline.cli("bundle", "import", str(tmp_path / "later.tar"))
    assert done.returncode == 1
    assert "version 9" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_no_file_is_said(offline: Instance, tmp_path: Path) -> None:
    done = offline.cli("bundle", "import", str(tmp_path / "none.tar"))
    assert done.returncode == 1
    assert "none.tar cannot be read" in done.stderr
