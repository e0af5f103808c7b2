"""Model cards: what a model is and where its weights come from.

A card is a YAML file. Those that ship with Modelry lie in `cards/`; an
operator's folder (`models_dir`) adds to them and overrides by id.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from modelry.catalog.formats import Allowed, Format
from modelry.catalog.sources import Source, parse_source
from modelry.engines.base import Defaults
from modelry.errors import InvalidRequest, SettingsError

Task = Literal["chat", "completion", "embedding", "rerank", "image", "speech", "transcription"]
TASKS: tuple[str, ...] = get_args(Task)

TOKENLESS: frozenset[Task] = frozenset({"image", "speech", "transcription"})
"""Tasks of models that have no context of tokens to speak of."""

Tag = Literal["tools", "vision", "reasoning", "code", "multilingual"]
"""What people look for in a model beside its tasks."""

_SHIPPED = Path(__file__).parent / "cards"
_ID = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?")


def _check_source(text: str) -> str:
    try:
        parse_source(text)
    except InvalidRequest as error:
        raise ValueError(error.message) from None
    return text


def check_id(text: str) -> str:
    """The rule for ids of cards and names of own models. Raises `ValueError` with it."""
    if not _ID.fullmatch(text):
        raise ValueError("must be a-z, 0-9, '.' and '-', 64 characters at most")
    return text


SourceText = Annotated[str, AfterValidator(_check_source)]
EngineName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]


class Variant(BaseModel):
    """One form of a model's weights. Size and digest are pinned where they could be checked;
    otherwise they are whatever the fetch finds, and kept from then on.

    `engines`: only these run it, the best first; empty leaves it to the format.
    `engine_args`: more arguments for an engine's command line, by the engine's name.
    `projector`: what turns images into tokens, where that is a file of its own.
    `preferred`: where it fits, it is chosen before others that take less effort.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    format: Format
    source: SourceText
    quantisation: str | None = Field(None, pattern=r"^[A-Z][A-Z0-9_.-]{0,23}$")
    projector: SourceText | None = None
    size_bytes: int | None = Field(None, gt=0)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    engines: tuple[EngineName, ...] = ()
    engine_args: Mapping[EngineName, tuple[str, ...]] = Field(default_factory=dict)
    preferred: bool = False
    allow_pickles: bool = False
    allow_remote_code: bool = False
    """Engines may run the programs that its repository brings."""
    copied: bool = False
    """Files of this machine are copied into the store instead of used where they lie."""
    public_only: bool = False
    """Somebody who is no operator named its source."""

    def __hash__(self) -> int:
        # Of what tells variants apart; a mapping has none.
        return hash((self.name, self.source, self.sha256))

    @property
    def weights_id(self) -> str:
        """What tells its weights from others: variants may differ in what they pin and name
        the same files. What is allowed is part of it: other files may come then, and what was
        fetched is not used any more once it is not allowed any more.
        """
        flags = ("allow_pickles", "allow_remote_code", "copied")
        return "\n".join([self.source, *(flag for flag in flags if getattr(self, flag))])

    @cached_property
    def projector_variant(self) -> "Variant | None":
        """Its projector, as weights that are fetched like any others."""
        if self.projector is None:
            return None
        return Variant(
            name="projector",
            format="gguf",
            source=self.projector,
            copied=self.copied,
            public_only=self.public_only,
        )

    @property
    def allowed(self) -> Allowed:
        return Allowed(self.allow_pickles, self.allow_remote_code)

    @cached_property
    def parsed_source(self) -> Source:
        return parse_source(self.source)

    @model_validator(mode="after")
    def _arguments_reach_an_engine(self) -> "Variant":
        stray = [name for name in self.engine_args if self.engines and name not in self.engines]
        if stray:
            raise ValueError(f"engine_args: {stray[0]!r} is none of its engines")
        return self


def _named_once(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    names = [variant.name for variant in variants]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two variants are called {name!r}")
    return variants


class ModelCard(BaseModel):
    """A model on offer. `context_tokens`: the longest context it was trained with.

    `parameters`: all of them, also those that a mixture of experts does not use for a token.
    `dimensions_min`: its embeddings may be cut to so many numbers at least (Matryoshka).
    `kv_bytes_per_token`: what its attention keeps of each token, in 16 bits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, AfterValidator(check_id)]
    name: str
    provider: str
    licence: str
    homepage: str | None = None
    description: str
    tasks: tuple[Task, ...] = Field(min_length=1)
    tags: tuple[Tag, ...] = ()
    parameters: int | None = Field(None, gt=0)
    context_tokens: int | None = Field(None, gt=0)
    dimensions_min: int | None = Field(None, gt=0)
    kv_bytes_per_token: int | None = Field(None, gt=0)
    defaults: Defaults = Defaults()
    variants: Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(_named_once)]

    def variant(self, name: str) -> Variant | None:
        return next((each for each in self.variants if each.name == name), None)

    @property
    def default_variant(self) -> Variant:
        return self.variants[0]


def load_cards(folder: Path | None = None) -> dict[str, ModelCard]:
    """Every card by id, the operator's last. Raises `SettingsError` that names a bad file."""
    own = {} if folder is None else read_folder(folder)
    return {card.id: card for card in [*read_folder(_SHIPPED).values(), *own.values()]}


def read_folder(folder: Path) -> dict[Path, ModelCard]:
    """Its cards by their files. Raises `SettingsError` that names a bad file."""
    cards: dict[Path, ModelCard] = {}
    held: dict[str, Path] = {}
    for file in card_files(folder):
        card = cards[file] = read_card(file)
        if held.setdefault(card.id, file) != file:
            raise same_id(file, held[card.id], card.id)
    return cards


def card_files(folder: Path) -> Iterator[Path]:
    """In the order of their names. Raises `SettingsError` where it is no folder."""
    if not folder.is_dir():
        raise SettingsError(f"MODELRY_MODELS_DIR: {folder} is no folder", param="models_dir")
    yield from sorted(folder.glob("*.yaml"))


def read_card(file: Path) -> ModelCard:
    """Raises `SettingsError` that names the file and the field."""
    try:
        text = file.read_text(encoding="utf-8")
        return ModelCard.model_validate(yaml.load(text, Loader=_LOADER))  # noqa: S506 - a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the card"
        reason = f"{place}: {first['msg']}"
    raise SettingsError(f"model card {file} is not usable: {reason}", param="models_dir")


def same_id(file: Path, other: Path, id_: str) -> SettingsError:
    return SettingsError(
        f"model card {file} is not usable: id: {other} has the id {id_!r} too",
        hint="give one of the two another id",
        param="models_dir",
    )


# libyaml's is ten times as fast, which the start of every control plane feels.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
