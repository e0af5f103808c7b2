"""The catalogue's cards as they are now: an operator's folder is read again when it has changed.

The first reading demands that every card is sound. After that a card that breaks takes
nothing down: its last good version stays on offer, and what is wrong is told.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from modelry.catalog.cards import (
    ModelCard,
    card_files,
    load_cards,
    read_card,
    read_folder,
    same_id,
)
from modelry.errors import SettingsError

log = logging.getLogger(__name__)

_Stamp: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class CardProblem:
    """A card that cannot be used as it is. `file`: its path."""

    file: str
    message: str


class Cards:
    """The shipped cards, and those of an operator's folder, which override them by id."""

    def __init__(self, folder: Path | None = None) -> None:
        """Raises `SettingsError` that names a bad file."""
        self._folder = folder
        self._shipped = dict(sorted(load_cards().items()))
        self._seen: dict[Path, _Stamp] | None = None
        self._good: dict[Path, ModelCard] = {}
        self._broken: dict[Path, str] = {}
        self._problems: tuple[CardProblem, ...] = ()
        self._cards: Mapping[str, ModelCard] = MappingProxyType(self._shipped)
        if folder is not None:
            stamps = _stamps(folder)
            self._good = read_folder(folder)
            # Files that changed meanwhile have other stamps at the next look.
            self._seen = {file: stamps[file] for file in self._good if file in stamps}
            self._offer()

    def current(self) -> Mapping[str, ModelCard]:
        """Every card by id. It costs a look at each file of the operator's folder."""
        if self._folder is not None:
            try:
                stamps = _stamps(self._folder)
            except SettingsError as error:
                # All cards at once are not taken back by a disk that went away.
                self._tell((CardProblem(str(self._folder), error.message),))
                self._seen = None
            else:
                if stamps != self._seen:
                    self._read(stamps)
        return self._cards

    @property
    def problems(self) -> tuple[CardProblem, ...]:
        """What was wrong when `current` was called last."""
        return self._problems

    def _read(self, stamps: dict[Path, _Stamp]) -> None:
        fresh: dict[Path, ModelCard] = {}
        broken: dict[Path, str] = {}
        seen = self._seen or {}
        for file, stamp in stamps.items():
            if seen.get(file) == stamp and file not in self._broken:
                fresh[file] = self._good[file]
                continue
            try:
                fresh[file] = read_card(file)
            except SettingsError as error:
                broken[file] = error.message
        before = {file: card for file, card in self._good.items() if file in stamps}
        held: dict[str, Path] = {}

        def hold(file: Path, card: ModelCard) -> bool:
            return held.setdefault(card.id, file) == file

        # Who had an id keeps it; who newly claims it is told.
        claims = sorted(
            fresh.items(), key=lambda each: (_id_of(before, each[0]) != each[1].id, each[0])
        )
        good: dict[Path, ModelCard] = {}
        for file, card in claims:
            if hold(file, card):
                good[file] = card
            else:
                broken[file] = same_id(file, held[card.id], card.id).message
        for file in broken:
            if file in before and hold(file, before[file]):
                good[file] = before[file]
        self._seen, self._good, self._broken = stamps, good, broken
        self._offer()
        self._tell(tuple(CardProblem(str(file), broken[file]) for file in sorted(broken)))

    def _offer(self) -> None:
        own = {card.id: card for card in self._good.values()}
        self._cards = MappingProxyType(dict(sorted({**self._shipped, **own}.items())))

    def _tell(self, problems: tuple[CardProblem, ...]) -> None:
        for problem in problems:
            if problem not in self._problems:
                log.error("%s", problem.message)
        self._problems = problems


def _id_of(cards: Mapping[Path, ModelCard], file: Path) -> str | None:
    card = cards.get(file)
    return None if card is None else card.id


def _stamps(folder: Path) -> dict[Path, _Stamp]:
    """What changes when a card does. Raises `SettingsError` where the folder is gone."""
    found: dict[Path, _Stamp] = {}
    try:
        for file in card_files(folder):
            try:
                stat = file.stat()
            except OSError:
                # A link that leads nowhere: reading it says so.
                found[file] = (0, 0, 0, 0)
            else:
                found[file] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError as error:
        raise SettingsError(f"MODELRY_MODELS_DIR: {error}", param="models_dir") from None
    return found
