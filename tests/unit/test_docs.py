"""The documents are a contract: what they list is what there is."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import typer
from typer.main import get_command

from modelry import __version__
from modelry.catalog.cards import ModelCard, Tag, Task, Variant, load_cards
from modelry.catalog.fit import Verdict
from modelry.catalog.formats import Format
from modelry.cli.main import app
from modelry.engines.base import Defaults
from modelry.services.conformance.checks import CHECKS
from modelry.services.conformance.report import Result
from modelry.settings import ENV_PREFIX, Secret, Settings

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"


def rows(guide: str) -> list[list[str]]:
    """The cells of every table row of a guide, without their backquotes."""
    text = (GUIDES / guide).read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_setting_is_explained_with_its_default() -> None:
    documented = {row[0].strip("`"): row for row in rows("settings.md")}
    for field in msgspec.structs.fields(Settings):
        row = documented.pop(f"{ENV_PREFIX}{field.name.upper()}")
        if field.default is None or field.type == (Secret | None):
            continue
        shown = str(field.default).lower() if isinstance(field.default, bool) else field.default
        assert row[2] == f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`" == row[2]
    documented.pop("variable")
    assert not documented, "settings.md explains settings that do not exist"


def test_every_option_of_up_that_is_a_setting_is_in_the_settings_guide() -> None:
    text = (GUIDES / "settings.md").read_text()
    command = get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    options = {name for each in command.commands["up"].params for name in each.opts}
    for option in options - {"--help"}:
        assert f"`{option}`" in text


def commands() -> Iterator[str]:
    root = get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    for name, command in root.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from (f"modelry {name} {sub}" for sub in command.commands)
        if not isinstance(command, typer.core.TyperGroup) or command.invoke_without_command:
            yield f"modelry {name}"


def test_every_command_is_in_the_commands_guide() -> None:
    text = (GUIDES / "commands.md").read_text()
    # The first column: a command, its subcommand, then its arguments in capitals.
    listed = set(re.findall(r"^\| `(modelry [a-z]+(?: [a-z]+)?)", text, re.MULTILINE))
    listed |= {"modelry gateway", "modelry control"}
    assert listed == set(commands())


def test_every_field_of_a_model_card_is_in_the_guide() -> None:
    named = (re.findall(r"`([a-z0-9_]+)`", row[0]) for row in rows("cards.md"))
    documented = {name for names in named for name in names}
    fields = {*ModelCard.model_fields, *Variant.model_fields}
    assert fields == documented - set(get_args(Verdict))
    text = (GUIDES / "cards.md").read_text()
    for word in (*Defaults.model_fields, *get_args(Task), *get_args(Tag), *get_args(Format)):
        assert f"`{word}`" in text


def test_the_example_of_a_model_card_is_one(tmp_path: Path) -> None:
    text = (GUIDES / "cards.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "example.yaml").write_text(example)
    assert load_cards(tmp_path)["support-bot"].parameters == 8_030_000_000


def test_every_refusal_of_the_gateway_is_in_the_errors_guide() -> None:
    sources = "".join(file.read_text() for file in (ROOT / "src/modelry/gateway").rglob("*.py"))
    raised = set(re.findall(r'error\(\s*(\d{3}),\s*"([a-z_]+)"', sources))
    assert len(raised) > 8
    raised.add(("400", "invalid_request_error"))
    documented = {
        (row[1], code) for row in rows("errors.md") for code in re.findall(r"`([a-z_]+)`", row[2])
    }
    assert raised == documented


def test_every_check_of_a_service_is_in_the_conformance_guide() -> None:
    named = [row[0].strip("`") for row in rows("conformance.md") if "." in row[0]]
    assert named == [check.name for check in CHECKS]
    results = [row[0].strip("`") for row in rows("conformance.md")]
    assert {*Result} <= {*results}


def test_the_guide_of_clients_names_the_versions_that_are_tried() -> None:
    text = (GUIDES / "clients.md").read_text().partition("## ")[0]
    folder = ROOT / "tests" / "e2e" / "clients"
    pins = [file.read_text().partition("\n")[0] for file in folder.glob("*.txt")]
    tried = [version for pin in pins for version in re.findall(r"==(\d+\.\d+)", pin)]
    assert len(tried) == 5
    package = json.loads((folder / "node" / "package.json").read_text())
    tried.append("AI SDK " + package["dependencies"]["ai"].partition(".")[0])
    assert [version for version in tried if version not in text] == []


def test_every_decision_record_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    records = sorted(file.name for file in folder.glob("0*.md"))
    assert re.findall(r"\]\((0\d{3}-[a-z-]+\.md)\)", index) == records


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_tree_in_the_architecture_names_every_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = {file.parent.name for file in (ROOT / "src/modelry").glob("*/__init__.py")}
    named = set(re.findall(r"^      ([a-z]+)/ ", text, re.MULTILINE))
    assert named == packages


def test_the_version_is_written_once_in_effect() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
