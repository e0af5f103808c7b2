"""The catalogue as somebody looks through it: what they look for, and each model at a glance."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import get_args
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict

from modelry.catalog.cards import Tag
from modelry.catalog.endpoints import ModelView, VariantView
from modelry.console.names import suggested

TAGS: tuple[str, ...] = get_args(Tag)
SIZES: dict[str, tuple[float, float]] = {
    "tiny": (0, 1e9),
    "small": (1e9, 5e9),
    "medium": (5e9, 15e9),
    "large": (15e9, 80e9),
    "huge": (80e9, float("inf")),
}
"""Parameters, from and below."""
TASK_ICONS = {
    "chat": "message-square",
    "completion": "type",
    "embedding": "braces",
    "rerank": "list-ordered",
    "image": "image",
    "speech": "volume-2",
    "transcription": "mic",
}
_TONES = {"fits": "good", "tight": "wait", "too_large": "bad"}
_ORDER = ("fits", "tight", "unknown", "too_large", "unsupported")


class Search(BaseModel):
    """What somebody looks for, as the address of the page says it; empty is anything."""

    model_config = ConfigDict(frozen=True)

    q: str = ""
    task: str = ""
    provider: str = ""
    size: str = ""
    tag: str = ""
    fits: str = ""
    here: str = ""
    own: str = ""

    def finds(self, shown: "Shown") -> bool:
        model = shown.model
        named = (model.id, model.name, shown.provider, model.description or "")
        text = " ".join([*named, *model.tasks, *model.tags]).lower()
        low, high = SIZES.get(self.size, (0, 0))
        return (
            all(word in text for word in self.q.lower().split())
            and self.task in ("", *model.tasks)
            and self.tag in ("", *model.tags)
            and self.provider in ("", shown.provider)
            and (not self.size or low <= (model.parameters or -1) < high)
            and (not self.fits or shown.verdict in ("fits", "tight"))
            and (not self.here or shown.best.weights == "here")
            and (not self.own or model.owner is not None)
        )

    @property
    def narrowed(self) -> bool:
        return self != Search()

    def href(self, **change: str) -> str:
        """The page with that changed; what is chosen already is chosen no more."""
        chosen = self.model_dump()
        for name, value in change.items():
            chosen[name] = "" if chosen[name] == value else value
        given = {name: value for name, value in chosen.items() if value}
        return "/models" + (f"?{urlencode(given)}" if given else "")


@dataclass(frozen=True)
class Shown:
    """A model at a glance. `best`: the variant that a service of it gets here."""

    model: ModelView
    best: VariantView
    suggested: str

    @property
    def path(self) -> str:
        return f"/models/{quote(self.model.reference)}"

    @property
    def deploy_path(self) -> str:
        return f"/deploy?{urlencode({'model': self.model.reference})}"

    @property
    def icon(self) -> str:
        return TASK_ICONS[self.model.tasks[0]]

    @property
    def provider(self) -> str:
        return self.model.provider or ""

    @property
    def verdict(self) -> str:
        """A verdict, or `unsupported` where no engine here runs it."""
        return self.best.fit.verdict if self.model.deployable else "unsupported"

    @property
    def tone(self) -> str:
        return _TONES.get(self.verdict, "")

    @property
    def size_bytes(self) -> int | None:
        return self.best.size_bytes or self.best.estimated_bytes

    @property
    def deploys_at_once(self) -> bool:
        """Whether one click will do: nothing speaks against it, and nothing has to be said."""
        return self.verdict in ("fits", "tight", "unknown") and self.best.format != "lora"

    @property
    def moving(self) -> bool:
        return any(variant.weights == "fetching" for variant in self.model.variants)


def shown(model: ModelView, taken: Collection[str]) -> Shown:
    best = next(variant for variant in model.variants if variant.default)
    return Shown(model, best, suggested(model.name if model.owner else model.id, taken))


def in_order(models: Sequence[Shown]) -> list[Shown]:
    """One's own and shared ones first, then what is here, then what runs here best."""

    def place(each: Shown) -> tuple[bool, bool, int]:
        away = each.best.weights != "here"
        return each.model.owner is None, away, _ORDER.index(each.verdict)

    return sorted(models, key=place)


def parameters(count: int) -> str:
    """As people name models by it: `135M`, `8.2B`, `1T`."""
    for unit, step in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= step * 0.9995:
            return f"{count / step:.3g}{unit}"
    return str(count)


def context(tokens: int) -> str:
    """A context as models' makers say it: `4K`, `128K`, `1M`."""
    for unit, step in (("M", 1024**2), ("K", 1024)):
        if tokens >= step:
            return f"{tokens / step:.3g}{unit}"
    return str(tokens)
