"""What requests meet in a service's replicas, as their engine reads it of the weights.

Weights do not change under their digest, so each file is read once, and in a thread: the disk may
be slow, and whoever asks has everything else to look after. It knows no database.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from modelry.catalog.fetches import in_thread
from modelry.engines.base import Constraining, Engine, ImageReader, Ranking
from modelry.services.spec import ServiceSpec, Spec
from modelry.services.supplies import Needs, Supplies

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Traits:
    """What callers' requests meet in a service's replicas, by its weights. As in `Route`."""

    images: bool = False
    raw_scores: bool = False
    tools: bool = False
    small: bool = False


NO_TRAITS = Traits()
_Trait = Literal["images", "raw_scores", "tools", "small"]


@dataclass(frozen=True)
class _Question:
    """Something that an engine can say of weights. `sha256`: of what lies at `path`."""

    trait: _Trait
    engine: str
    path: Path
    sha256: str


class TraitsReader:
    """Remembers what it read of the weights that it was asked for last."""

    def __init__(self, engines: Mapping[str, Engine], supplies: Supplies) -> None:
        self._engines = engines
        self._supplies = supplies
        self._known: dict[_Question, bool] = {}

    async def read(
        self,
        tasks: Mapping[str, Sequence[str]],
        specs: Mapping[str, Spec],
        needs: Mapping[str, Needs],
    ) -> dict[str, Traits]:
        """Of each service that has `needs`; all three are by service ids.

        Where it goes by weights that are not here yet, chats may bring images: its calls wait for
        the weights anyway.
        """
        asked = dict[str, list[_Question]]()
        found = {}
        for id_, wanted in needs.items():
            spec = specs[id_]
            engine: object = (
                self._engines.get(spec.engine) if isinstance(spec, ServiceSpec) else None
            )
            sees = isinstance(engine, ImageReader) and not wanted.images
            traits: list[_Trait] = ["images"] if sees else []
            if isinstance(engine, Ranking) and "rerank" in tasks[id_]:
                traits.append("raw_scores")
            if isinstance(engine, Constraining) and "chat" in tasks[id_]:
                traits += ["tools", "small"]
            supplied = self._supplies.ready(wanted) if traits else None
            found[id_] = Traits(images=wanted.images or (sees and supplied is None))
            if supplied is not None and isinstance(spec, ServiceSpec):
                where = (spec.engine, supplied.weights.path, supplied.weights.sha256)
                asked[id_] = [_Question(trait, *where) for trait in traits]
        await self._learn({question for each in asked.values() for question in each})
        for id_, questions in asked.items():
            told = {each.trait: self._known.get(each, False) for each in questions}
            found[id_] = replace(found[id_], **told)
        return found

    # ------------------------------------------------------------------------

    async def _learn(self, asked: set[_Question]) -> None:
        """What is not known of these yet; the rest need not be known any longer."""
        self._known = {each: told for each, told in self._known.items() if each in asked}
        unknown = asked - self._known.keys()
        if unknown:
            self._known |= await in_thread("traits of weights", lambda: self._answers(unknown))

    def _answers(self, questions: Iterable[_Question]) -> dict[_Question, bool]:
        """All that can be answered. The others are asked again next time."""
        found = {}
        for question in questions:
            engine: object = self._engines[question.engine]
            try:
                if question.trait == "images" and isinstance(engine, ImageReader):
                    found[question] = engine.reads_images(question.path)
                elif question.trait == "raw_scores" and isinstance(engine, Ranking):
                    found[question] = engine.raw_scores(question.path)
                elif question.trait == "tools" and isinstance(engine, Constraining):
                    found[question] = engine.renders_tools(question.path)
                elif question.trait == "small" and isinstance(engine, Constraining):
                    found[question] = engine.runs_on(question.path)
            except (OSError, ValueError) as problem:
                log.warning("%s could not be read: %s", question.path, problem)
        return found
