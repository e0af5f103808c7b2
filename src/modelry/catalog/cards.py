"""Model cards: what a model is and where its weights come from.

A card is a YAML file. Those that ship with Modelry lie in `cards/`; an
operator's folder (`models_dir`) adds to them and overrides by id.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from modelry.catalog.formats import Allowed, Format
from modelry.catalog.sources import Source, parse_source
from modelry.engines.base import Defaults
from modelry.errors import InvalidRequest, SettingsError

Task = Literal["chat", "completion", "embedding", "rerank", "image", "speech", "transcription"]

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


class Variant(BaseModel):
    """One form of a model's weights. Size and digest are pinned where they are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    format: Format
    source: Annotated[str, AfterValidator(_check_source)]
    size_bytes: int | None = Field(None, gt=0)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    allow_pickles: bool = False
    allow_remote_code: bool = False
    """Engines may run the programs that its repository brings."""
    copied: bool = False
    """Files of this machine are copied into the store instead of used where they lie."""
    public_only: bool = False
    """Somebody who is no operator named its source."""

    @property
    def weights_id(self) -> str:
        """What tells its weights from others: variants may differ in what they pin and name
        the same files. What is allowed is part of it: other files may come then, and what was
        fetched is not used any more once it is not allowed any more.
        """
        flags = ("allow_pickles", "allow_remote_code", "copied")
        return "\n".join([self.source, *(flag for flag in flags if getattr(self, flag))])

    @property
    def allowed(self) -> Allowed:
        return Allowed(self.allow_pickles, self.allow_remote_code)

    @cached_property
    def parsed_source(self) -> Source:
        return parse_source(self.source)


class ModelCard(BaseModel):
    """A model on offer. `context_tokens`: the longest context it was trained with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, AfterValidator(check_id)]
    name: str
    provider: str
    licence: str
    homepage: str | None = None
    description: str
    tasks: tuple[Task, ...] = Field(min_length=1)
    parameters: int | None = Field(None, gt=0)
    context_tokens: int | None = Field(None, gt=0)
    defaults: Defaults = Defaults()
    variants: tuple[Variant, ...] = Field(min_length=1)

    @property
    def default_variant(self) -> Variant:
        return self.variants[0]


def load_cards(folder: Path | None = None) -> dict[str, ModelCard]:
    """Every card by id, the operator's last. Raises `SettingsError` that names a bad file."""
    cards: dict[str, ModelCard] = {}
    folders = [_SHIPPED] if folder is None else [_SHIPPED, folder]
    for place in folders:
        if not place.is_dir():
            raise SettingsError(f"MODELRY_MODELS_DIR: {place} is no folder", param="models_dir")
        for file in sorted(place.glob("*.yaml")):
            card = _load(file)
            cards[card.id] = card
    return cards


def _load(file: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the card"
        reason = f"{place}: {first['msg']}"
    raise SettingsError(f"model card {file} is not usable: {reason}", param="models_dir")
