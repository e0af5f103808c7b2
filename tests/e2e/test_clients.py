"""Clients that callers use work as the guide says they are configured, against the real engine."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeAlias

import pytest

from modelry.services.examples_libraries import library_examples
from tests.support.client_programs import (
    CLIENTS,
    guide_code,
    guide_sections,
    install_client,
)
from tests.support.instance import Instance
from tests.support.node import install_node

# The first run installs the client.
pytestmark = pytest.mark.timeout(400)

Steps: TypeAlias = dict[str, dict[str, Any]]
RunPython: TypeAlias = Callable[[str, str], Steps]

HEADINGS = {
    "LangChain",
    "LiteLLM",
    "OpenAI Agents SDK",
    "llm",
    "LlamaIndex",
    "AI SDK",
}


@pytest.fixture(scope="session")
def environments(request: pytest.FixtureRequest) -> Path:
    """Where clients are installed."""
    assert request.config.cache is not None
    return Path(request.config.cache.mkdir("clients"))


@pytest.fixture
def environment(shared: Instance, demo_key: str, demo_path: str) -> dict[str, str]:
    return {
        "MODELRY_BASE_URL": f"{shared.url}/v1",
        "MODELRY_API_KEY": demo_key,
        "MODELRY_MODEL": demo_path,
        # Otherwise LiteLLM asks the internet for prices, at each import.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


@pytest.fixture
def run_python(
    shared: Instance,
    environments: Path,
    environment: dict[str, str],
    demo_path: str,
    tmp_path: Path,
) -> RunPython:
    def run(name: str, heading: str) -> Steps:
        """Run what the guide shows, and then the client's program; what that one told."""
        client = install_client(environments, name)
        shown = guide_code(heading, "python", url=shared.url, path=demo_path)
        program = (CLIENTS / f"with_{name}.py").read_text()
        return told(client.run(tmp_path, [*shown, program], environment))

    return run


def told(done: CompletedProcess[str]) -> Steps:
    """The steps by their names. Before them stands what the guide's programs said."""
    assert done.returncode == 0, done.stdout + done.stderr
    said, brace, lines = done.stdout.partition('{"step"')
    assert said.strip()
    return {line.pop("step"): line for line in map(json.loads, (brace + lines).splitlines())}


def assert_does_what_chats_can(saw: Steps, kind: str = "") -> None:
    """The five steps that all clients have."""
    for step in ("chat", "stream"):
        tokens_in, tokens_out = saw[kind + step]["tokens"]
        assert tokens_in > 10
        assert 1 < tokens_out <= 64
        assert saw[kind + step]["text"].strip()
    assert saw[kind + "stream"]["pieces"] > 1
    for step in ("tool", "streamed tool"):
        ((name, arguments),) = saw[kind + step]["calls"]
        assert name == "weather"
        assert list(arguments) == ["city"]
        assert isinstance(arguments["city"], str)
    assert saw[kind + "tool"]["text"].strip()
    assert_is_a_city(saw[kind + "structured"]["city"])


def assert_is_a_city(found: Any) -> None:
    assert set(found) == {"name", "population"}
    assert isinstance(found["name"], str)
    assert isinstance(found["population"], int)


def test_langchain(run_python: RunPython) -> None:
    saw = run_python("langchain", "LangChain")
    assert_does_what_chats_can(saw)
    assert_is_a_city(saw["structured by a tool"]["city"])
    assert saw["responses"]["text"].strip()


def test_the_langchain_programs_of_a_page(
    shared: Instance,
    environments: Path,
    environment: dict[str, str],
    demo_path: str,
    tmp_path: Path,
) -> None:
    client = install_client(environments, "langchain")
    programs = [
        each.code
        for each in library_examples(f"{shared.url}/v1", demo_path)
        if each.library == "langchain"
    ]
    for code in programs:
        done = client.run(tmp_path, [code], environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    assert len(programs) == 2


def test_litellm(run_python: RunPython) -> None:
    saw = run_python("litellm", "LiteLLM")
    assert_does_what_chats_can(saw)
    for step in ("responses", "messages"):
        assert saw[step]["text"].strip()
        assert saw[step]["tokens"] > [10, 1]


def test_the_openai_agents_sdk(run_python: RunPython, demo_path: str) -> None:
    saw = run_python("agents", "OpenAI Agents SDK")
    assert_does_what_chats_can(saw)
    assert_does_what_chats_can(saw, "chat completions: ")
    # What the guide warns of, and the two ways that it shows.
    assert saw["path"]["error"] == f"Unknown prefix: {demo_path.partition('/')[0]}"
    assert saw["path by the provider"]["text"].strip()
    assert saw["path by a model"]["text"].strip()


def test_llamaindex(run_python: RunPython) -> None:
    saw = run_python("llamaindex", "LlamaIndex")
    assert_does_what_chats_can(saw)
    assert_is_a_city(saw["structured by a tool"]["city"])


def test_llm(
    shared: Instance,
    environments: Path,
    environment: dict[str, str],
    demo_path: str,
    tmp_path: Path,
) -> None:
    client = install_client(environments, "llm")
    user = {**environment, "LLM_USER_PATH": str(tmp_path)}
    (models,) = guide_code("llm", "yaml", url=shared.url, path=demo_path)
    (tmp_path / "extra-openai-models.yaml").write_text(models)
    (commands,) = guide_code("llm", "sh", url=shared.url, path=demo_path)
    shown = client.shell(commands, user)
    assert shown.returncode == 0, shown.stderr
    program = f"print({shown.stdout!r})", (CLIENTS / "with_llm.py").read_text()
    saw = told(client.run(tmp_path, program, user))
    assert_does_what_chats_can(saw)
    assert saw["tool"]["results"] == ["It is sunny in Paris."]


def test_vercels_ai_sdk(
    request: pytest.FixtureRequest,
    shared: Instance,
    environment: dict[str, str],
    demo_path: str,
    tmp_path: Path,
) -> None:
    assert request.config.cache is not None
    package = CLIENTS / "node" / "package.json"
    node = install_node(Path(request.config.cache.mkdir("node")), package)
    shown = guide_code("AI SDK", "js", url=shared.url, path=demo_path)
    program = package.with_name("with_ai_sdk.js").read_text()
    saw = told(node.run_modules(tmp_path, [*shown, program], **environment))
    for kind in ("", "responses: ", "chat of openai: "):
        assert_does_what_chats_can(saw, kind)
        assert len(saw[f"{kind}tool"]["results"]) == 1


def test_every_client_of_the_guide_is_tried() -> None:
    assert set(guide_sections()) == HEADINGS
