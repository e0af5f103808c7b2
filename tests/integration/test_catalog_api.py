"""The catalogue through the management API: variants and whether they fit, own cards, sharing."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelry.access.store import UserRow, add_token
from modelry.client import Json
from modelry.db import Database
from tests.integration.conftest import KeptConnection
from tests.integration.test_api import error_of
from tests.support.instance import MODEL, Instance, running
from tests.support.weights_files import gguf

STRANGER = "u-0123456789ab"
STRANGERS_TOKEN = "pat-" + "o" * 40
_numbers = itertools.count(1)

LADDER = """\
id: ladder
name: Ladder
provider: Me
licence: MIT
description: A model of several variants.
tasks: [chat]
tags: [tools, code]
parameters: {parameters}
context_tokens: 32768
variants:
  - {{name: small, format: gguf, quantisation: Q4_K_M, source: "file:///none/small.gguf"}}
  - {{name: large, format: gguf, quantisation: Q6_K, source: "file:///none/large.gguf"}}
  - {{name: whole, format: onnx, source: "hf://org/repo"}}
"""
TALKER = """\
id: talker
name: Talker
provider: Me
licence: MIT
description: Nothing here hears what it is for.
tasks: [transcription]
variants:
  - {name: whole, format: onnx, source: "hf://org/talker"}
  - {name: other, format: gguf, engines: [elsewhere-engine], source: "hf://org/talker/a.gguf"}
"""


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cards")
    (folder / "ladder.yaml").write_text(LADDER.format(parameters=1000))
    (folder / "talker.yaml").write_text(TALKER)
    return folder


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, cards: Path) -> Iterator[Instance]:
    data_dir = tmp_path_factory.mktemp("catalogue") / "data"
    instance = KeptConnection(data_dir, MODELRY_MODELS_DIR=str(cards), MODELRY_OFFLINE="true")
    with instance.http, running(instance):
        add_stranger(instance)
        yield instance


def add_stranger(instance: Instance) -> None:
    async def add() -> None:
        db = Database(None, instance.paths.database)
        async with db.begin() as session:
            session.add(UserRow(id=STRANGER, name="stranger", operator=False))
            await session.flush()
            add_token(session, STRANGER, "tests", STRANGERS_TOKEN)
        await db.close()

    asyncio.run(add())


def strangers(api: Instance, method: str, path: str, **options: Any) -> Any:
    return api.api(method, path, token=STRANGERS_TOKEN, **options)


def listed(api: Instance, **options: Any) -> dict[str, Json]:
    rows = api.api("GET", "/models", params={"limit": 1000}, **options).json()["data"]
    return {row["reference"]: row for row in rows}


def default_of(model: Json) -> str:
    (name,) = [variant["name"] for variant in model["variants"] if variant["default"]]
    return str(name)


def made(api: Instance, **spec: Any) -> Json:
    """The spec of a service that is made of it, and deleted again."""
    response = api.api("POST", "/services", json={"name": f"of-it-{next(_numbers)}", **spec})
    assert response.status_code == 201, response.text
    assert api.api("DELETE", f"/services/{response.json()['id']}").status_code == 202
    return dict(response.json()["spec"])


# -- variants ----------------------------------------------------------------


def test_each_variant_says_whether_it_fits_and_one_is_the_default(api: Instance) -> None:
    model = api.api("GET", "/models/ladder").json()
    assert (model["tags"], model["deployable"], model["reason"]) == (["tools", "code"], True, None)
    by_name = {variant["name"]: variant for variant in model["variants"]}
    assert by_name["small"]["quantisation"] == "Q4_K_M"
    assert by_name["small"]["fit"]["verdict"] == "fits"
    assert by_name["small"]["fit"]["where"] in ("gpu", "memory")
    assert by_name["small"]["fit"]["memory_bytes"] > 0
    assert default_of(model) == "large", "the best that fits and can be run"
    assert by_name["small"]["reason"] is None
    assert "not onnx" in by_name["whole"]["reason"]


def test_an_estimate_is_made_for_the_size_that_is_asked_for(api: Instance) -> None:
    def needs(**size: int) -> int:
        model = api.api("GET", f"/models/{MODEL}", params=size).json()
        return int(model["variants"][0]["fit"]["memory_bytes"])

    assert needs(context_tokens=8192, slots=256) > needs() > needs(context_tokens=64, slots=1)
    assert needs(context_tokens=4096, slots=4) == needs()
    response = api.api("GET", f"/models/{MODEL}", params={"slots": 0})
    assert response.status_code == 422


def test_a_service_gets_the_default_and_keeps_it(api: Instance) -> None:
    assert made(api, model="ladder")["variant"] == "large"


def test_a_service_gets_the_variant_it_names(api: Instance) -> None:
    assert made(api, model="ladder", variant="small")["variant"] == "small"


def test_an_unknown_variant_is_refused_with_those_there_are(api: Instance) -> None:
    body = {"name": "never", "model": "ladder", "variant": "huge"}
    response = api.api("POST", "/services", json=body)
    assert response.status_code == 422
    error = error_of(response)
    assert (error["code"], error["param"]) == ("variant_not_found", "variant")
    assert "small, large, whole" in error["hint"]


def test_a_variant_that_no_engine_here_runs_is_refused_with_the_reason(api: Instance) -> None:
    body = {"name": "never", "model": "ladder", "variant": "whole"}
    response = api.api("POST", "/services", json=body)
    assert response.status_code == 422
    assert "not onnx" in error_of(response)["message"]


def test_a_service_elsewhere_has_no_variant(api: Instance) -> None:
    body = {"name": "never", "endpoint": {"url": "https://api.example.com/v1"}, "variant": "x"}
    response = api.api("POST", "/services", json=body)
    assert response.status_code == 422
    assert error_of(response)["param"] == "variant"


def test_a_model_that_nothing_here_runs_is_listed_with_the_reason(api: Instance) -> None:
    model = listed(api)["talker"]
    assert model["deployable"] is False
    assert "onnx" in model["reason"]
    response = api.api("POST", "/services", json={"name": "never", "model": "talker"})
    assert response.status_code == 422
    assert model["reason"] in error_of(response)["message"]
    body = {"name": "never", "model": "talker", "variant": "other"}
    response = api.api("POST", "/services", json=body)
    assert "elsewhere-engine" in error_of(response)["message"]


def test_what_is_too_large_is_said_and_can_be_deployed_all_the_same(
    api: Instance, cards: Path
) -> None:
    (cards / "ladder.yaml").write_text(LADDER.format(parameters=10**13))
    try:
        model = api.api("GET", "/models/ladder").json()
        assert default_of(model) == "small", "what needs least"
        assert {each["fit"]["verdict"] for each in model["variants"]} == {"too_large"}
        assert made(api, model="ladder")["variant"] == "small"
        done = api.cli("deploy", "ladder", "--variant", "large", "--name", "huge", "--no-wait")
        assert done.returncode == 0, done.stderr
        assert "warning: Ladder (large) needs about 9" in done.stderr
        assert done.stdout.endswith("/huge\n")
        assert api.api("DELETE", "/services/huge").status_code == 202
    finally:
        (cards / "ladder.yaml").write_text(LADDER.format(parameters=1000))


# -- the operator's folder ---------------------------------------------------


def test_a_card_is_added_overridden_and_taken_away_without_a_restart(
    api: Instance, cards: Path
) -> None:
    card = cards / "fresh.yaml"
    card.write_text(TALKER.replace("talker", "fresh"))
    assert "fresh" in listed(api)
    card.write_text(TALKER.replace("id: talker", f"id: {MODEL}"))
    assert listed(api)[MODEL]["name"] == "Talker"
    card.unlink()
    after = listed(api)
    assert "fresh" not in after
    assert after[MODEL]["provider"] == "Hugging Face"


def test_a_card_that_breaks_takes_nothing_down_and_operators_are_told(
    api: Instance, cards: Path
) -> None:
    assert api.api("GET", "/catalog/problems").json() == {"data": [], "next": None}
    before = listed(api)
    broken = cards / "talker.yaml"
    broken.write_text(TALKER.replace("[transcription]", "[singing]"))
    try:
        assert listed(api) == before
        (problem,) = api.api("GET", "/catalog/problems").json()["data"]
        assert problem["file"] == str(broken)
        assert "tasks.0: " in problem["message"]
        done = api.cli("models")
        assert done.returncode == 0
        assert f"warning: model card {broken}" in done.stderr
        assert "talker" in done.stdout
    finally:
        broken.write_text(TALKER)
    assert api.api("GET", "/catalog/problems").json()["data"] == []


def test_only_operators_are_told_of_faults(api: Instance) -> None:
    assert strangers(api, "GET", "/catalog/problems").status_code == 403
    done = api.cli("models", env={"MODELRY_TOKEN": STRANGERS_TOKEN})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# -- sharing -----------------------------------------------------------------


@pytest.fixture
def own(api: Instance, tmp_path: Path) -> Iterator[Json]:
    """A model of the operator's own, which nobody else sees."""
    file = tmp_path / "own-Q4_K_M.gguf"
    file.write_bytes(gguf(100))
    name = f"own-{tmp_path.name[-8:].replace('_', '-')}"
    response = api.api("POST", "/models", json={"name": name, "source": file.as_uri()})
    assert response.status_code == 201, response.text
    yield response.json()
    api.api("PATCH", f"/models/{response.json()['id']}", json={"shared": False})


def share(api: Instance, model: Json, *, shared: bool = True) -> None:
    response = api.api("PATCH", f"/models/{model['name']}", json={"shared": shared})
    assert response.status_code == 200, response.text
    assert response.json()["shared"] is shared


def test_an_own_model_is_its_owners_alone(api: Instance, own: Json) -> None:
    assert (own["shared"], own["reference"]) == (False, own["name"])
    assert own["variants"][0]["quantisation"] == "Q4_K_M"
    assert own["variants"][0]["size_bytes"] > 0
    assert own["id"] not in {row["id"] for row in listed(api, token=STRANGERS_TOKEN).values()}
    for reference in (own["name"], own["id"], f"{own['owner']}/{own['name']}"):
        assert strangers(api, "GET", f"/models/{reference}").status_code == 404
        body = {"name": "never", "model": reference}
        assert strangers(api, "POST", "/services", json=body).status_code == 404


def test_a_shared_model_is_seen_and_used_by_others(api: Instance, own: Json) -> None:
    share(api, own)
    by_name = f"{own['owner']}/{own['name']}"
    seen = listed(api, token=STRANGERS_TOKEN)[by_name]
    assert (seen["id"], seen["owner"], seen["shared"]) == (own["id"], own["owner"], True)
    # The owner's own list has it once.
    assert [row["id"] for row in listed(api).values()].count(own["id"]) == 1
    for number, reference in enumerate((own["id"], by_name)):
        assert strangers(api, "GET", f"/models/{reference}").json()["id"] == own["id"]
        body = {"name": f"theirs-{number}", "model": reference}
        response = strangers(api, "POST", "/services", json=body)
        assert response.status_code == 201, response.text
        assert response.json()["model"] == by_name
        assert response.json()["spec"]["model"] == own["id"]
        assert strangers(api, "DELETE", f"/services/theirs-{number}").status_code == 202
    # Its plain name is its owner's.
    assert strangers(api, "GET", f"/models/{own['name']}").status_code == 404


def test_others_do_not_see_where_on_the_disk_it_lies(api: Instance, own: Json) -> None:
    share(api, own)
    theirs = strangers(api, "GET", f"/models/{own['id']}").json()
    assert theirs["variants"][0]["source"] == "file:///…/own-Q4_K_M.gguf"
    mine = api.api("GET", f"/models/{own['id']}").json()
    assert mine["variants"][0]["source"] == own["variants"][0]["source"]


def test_services_of_others_outlive_the_sharing(api: Instance, own: Json) -> None:
    share(api, own)
    body = {"name": "outlives", "model": own["id"]}
    assert strangers(api, "POST", "/services", json=body).status_code == 201
    share(api, own, shared=False)
    assert strangers(api, "GET", f"/models/{own['id']}").status_code == 404
    again = strangers(api, "POST", "/services/outlives/start")
    assert again.status_code == 200
    assert "no longer in the catalogue" not in again.json()["status"]["message"]
    assert strangers(api, "DELETE", "/services/outlives").status_code == 202


def test_only_its_owner_or_an_operator_changes_a_model(
    api: Instance, own: Json, tmp_path: Path
) -> None:
    share(api, own)
    response = strangers(api, "PATCH", f"/models/{own['id']}", json={"shared": False})
    assert response.status_code == 403
    assert error_of(response)["code"] == "permission_denied"
    share(api, own, shared=False)
    response = strangers(api, "PATCH", f"/models/{own['id']}", json={"shared": True})
    assert response.status_code == 404
    # The other way round: a model of the stranger's, changed by an operator.
    add_strangers_model(api, "mdl_0123456789abcdef", "theirs")
    assert api.api("GET", "/models/theirs").status_code == 404
    response = api.api("PATCH", "/models/mdl_0123456789abcdef", json={"shared": True})
    assert response.status_code == 200
    assert response.json()["reference"] == f"{STRANGER}/theirs"
    assert strangers(api, "PATCH", "/models/theirs", json={"shared": False}).status_code == 200


def add_strangers_model(api: Instance, id_: str, name: str) -> None:
    from modelry.catalog.store import ModelRow

    async def add() -> None:
        db = Database(None, api.paths.database)
        async with db.begin() as session:
            source = "https://models.example.com/a.gguf?token=secret"
            session.add(
                ModelRow(id=id_, user_id=STRANGER, name=name, source=source, tasks=["chat"])
            )
        await db.close()

    asyncio.run(add())


def test_the_query_of_a_web_address_is_its_owners(api: Instance, own: Json) -> None:
    theirs = {"name": "never", "source": "https://models.example.com/a.gguf?token=secret"}
    response = api.api("POST", "/models", json={**theirs, "name": "by-web"})
    assert response.status_code == 201, response.text
    share(api, response.json())
    (variant,) = strangers(api, "GET", f"/models/{response.json()['id']}").json()["variants"]
    assert variant["source"] == "https://models.example.com/a.gguf"


def test_what_is_left_out_of_a_change_stays(api: Instance, own: Json) -> None:
    path = f"/models/{own['id']}"
    told, name = "Mine.\nMoreover.", own["name"] + "-new"
    changes = {"description": told, "tasks": ["completion"], "name": name}
    changed = api.api("PATCH", path, json=changes).json()
    assert (changed["description"], changed["tasks"]) == (told, ["completion"])
    assert changed["name"] == changes["name"]
    assert api.api("GET", f"/models/{own['name']}").status_code == 404
    same = api.api("PATCH", path, json={"shared": True}).json()
    assert same == {**changed, "shared": True}
    assert api.api("PATCH", path, json={"description": None}).json()["description"] is None


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"name": MODEL}, 409, "name"),
        ({"name": "Has Capitals"}, 422, "name"),
        ({"tasks": []}, 422, "tasks"),
        ({"tasks": ["singing"]}, 422, "tasks.0"),
        ({"source": "hf://a/b"}, 422, "source"),
        ({"shared": "perhaps"}, 422, "shared"),
        ({"description": "x" * 1001}, 422, "description"),
        ({"description": "\x1b[2Jgone"}, 422, "description"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    api: Instance, own: Json, changes: Json, status: int, param: str
) -> None:
    response = api.api("PATCH", f"/models/{own['id']}", json=changes)
    assert response.status_code == status, response.text
    assert error_of(response)["param"] == param
    assert api.api("GET", f"/models/{own['id']}").json() == own


def test_a_model_of_the_catalogue_cannot_be_changed(api: Instance) -> None:
    response = api.api("PATCH", f"/models/{MODEL}", json={"shared": True})
    assert response.status_code == 403
    assert "MODELRY_MODELS_DIR" in error_of(response)["hint"]


# -- the command line --------------------------------------------------------


def test_a_model_is_shared_and_unshared_by_commands(api: Instance, own: Json) -> None:
    done = api.cli("models", "share", own["name"])
    assert done.returncode == 0, done.stderr
    reference = f"{own['owner']}/{own['name']}"
    assert reference in done.stderr
    theirs = {"MODELRY_TOKEN": STRANGERS_TOKEN}
    shown = api.cli("models", "show", reference, env=theirs)
    assert shown.returncode == 0, shown.stderr
    assert "shared with everyone" in shown.stdout
    assert reference in api.cli("models", env=theirs).stdout
    refused = api.cli("models", "unshare", reference, env=theirs)
    assert refused.returncode == 1
    assert "belongs to" in refused.stderr
    assert api.cli("models", "unshare", own["name"]).returncode == 0
    gone = api.cli("models", "show", reference, env=theirs)
    assert gone.returncode == 1
    assert "there is no model" in gone.stderr


def test_a_model_is_shown_with_its_variants(api: Instance) -> None:
    done = api.cli("models", "show", "ladder")
    assert done.returncode == 0, done.stderr
    for told in ("MIT", "hf://org/repo", "tools, code", "32768 tokens", "large, deployed unless"):
        assert told in done.stdout
    assert "needs about" in done.stdout
    assert "not here: llama.cpp runs GGUF" in done.stdout
    assert "no: " in api.cli("models", "show", "talker").stdout
    (line,) = [row for row in api.cli("models").stdout.splitlines() if row.startswith("talker")]
    assert "not here" in line
    (line,) = [row for row in api.cli("models").stdout.splitlines() if row.startswith("ladder")]
    assert "fits" in line
