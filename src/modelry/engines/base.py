"""The contract of an engine.

An engine says what it can run and how; it starts nothing itself. Its process
speaks OpenAI-style HTTP on the private address that the executor gave it, and
demands that replica's secret.
"""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from modelry.engines.inventory import Inventory
from modelry.engines.options import OptionRules, Options
from modelry.errors import ModelryError


class Defaults(BaseModel):
    """What a request gets that does not say: None leaves it to the engine.

    `max_tokens` bounds the answer; a small model that has lost its thread
    would otherwise go on to the end of its context.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)


@dataclass(frozen=True)
class ReplicaPlan:
    """What one replica is to run: weights, the name it answers to, and its size.

    `context_tokens` is what one request may use, prompt and answer together.
    `adapter`: a file or folder of LoRA weights that the whole replica runs with.
    `projector`: a file that turns images into tokens.
    `runtime`: the environment of an engine that is not embedded. `gpus`: those it
    may use, by their index.
    """

    replica_id: str
    access_path: str
    weights: Path
    tasks: tuple[str, ...]
    slots: int
    context_tokens: int
    defaults: Defaults = field(default_factory=Defaults)
    adapter: Path | None = None
    projector: Path | None = None
    runtime: Path | None = None
    gpus: tuple[int, ...] = ()
    options: Options = field(default_factory=Options)
    allow_remote_code: bool = False


@dataclass(frozen=True)
class Endpoint:
    """Where a replica must listen, `unix:<path>` or `tcp:<host>:<port>`, and its secret."""

    address: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Command:
    """How to start an engine process.

    Secrets go to `stdin`, never into `argv`; `env` is added to a minimal
    environment of the executor's. The process is started in a folder of the
    replica's own, which is removed with it.
    """

    argv: tuple[str, ...]
    stdin: bytes = field(default=b"", repr=False)
    env: dict[str, str] = field(default_factory=dict, repr=False)


class Probe(Enum):
    """What a look at a replica's endpoint found."""

    READY = "ready"
    LOADING = "loading"
    UNREACHABLE = "unreachable"
    FOREIGN = "foreign"
    """Something answers there that does not know the secret: not our replica."""


@dataclass(frozen=True)
class Failure:
    """Why an engine process ended, in a sentence. `lasting`: trying again changes nothing."""

    message: str
    lasting: bool = False


class Engine(Protocol):
    """`stops_whole_answers`: it stops working on an answer that is not a stream
    when its client hangs up. Where it does not, the gateway asks for a stream.
    `embedded`: it comes with Modelry; otherwise each version is a runtime to install.
    `takes_adapters`: its replicas take LoRA adapters while they run; otherwise an
    adapter needs a replica of its own. `adapter_rank_max`: of an adapter it can run.
    """

    name: str
    stops_whole_answers: bool
    embedded: bool
    takes_adapters: bool
    rules: OptionRules

    adapter_rank_max: int | None

    def open_to_adapters(self, weights: Path) -> bool:
        """Whether replicas of such weights take adapters while they run; it reads the folder."""
        ...

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        """None where it can run such weights for such tasks, otherwise why not."""
        ...

    def converts(self, format: str) -> str | None:
        """The format it runs that weights of `format` can be converted to, if there is one."""
        ...

    def preference(self, format: str, inventory: Inventory) -> int:
        """How well it suits such weights on such a machine: the lowest is chosen."""
        ...

    def gpus(self, inventory: Inventory) -> int:
        """How many GPUs a replica of it takes where nobody says."""
        ...

    def check(self, options: Options) -> None:
        """Raises `InvalidRequest` for a value that it cannot take."""
        ...

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command: ...

    async def probe(self, endpoint: Endpoint) -> Probe: ...

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        """Why it ended. `exit_code` is negative for a signal, None where nobody saw it."""
        ...


class AdapterHost(Protocol):
    """What an engine with `takes_adapters` does with them. All raise `AdapterRefused`."""

    async def adapters(self, endpoint: Endpoint) -> frozenset[str]:
        """The names of those that a replica has."""
        ...

    async def load_adapter(self, endpoint: Endpoint, name: str, adapter: Path) -> None: ...

    async def unload_adapter(self, endpoint: Endpoint, name: str) -> None: ...


@runtime_checkable
class Versioned(Protocol):
    """An embedded engine that says which one it is. Of others, the runtime's name does."""

    @property
    def version(self) -> str: ...


@runtime_checkable
class Ranking(Protocol):
    """An engine that may rank by scores of any size."""

    def raw_scores(self, weights: Path) -> bool:
        """Whether it does with such weights; otherwise its scores are between 0 and 1. Raises
        `OSError`.
        """
        ...


@runtime_checkable
class Constraining(Protocol):
    """An engine that writes by a grammar, and calls no function for sure unless one makes it."""

    def renders_tools(self, weights: Path) -> bool:
        """Whether such weights' template tells the model of functions. Raises `OSError`."""
        ...

    def runs_on(self, weights: Path) -> bool:
        """Whether so small a model may repeat itself without an end. Raises `OSError`."""
        ...


@runtime_checkable
class Speaking(Protocol):
    """An engine whose replicas tell which tokens a text has, and whose parameters are known.
    `dialect`: in whose words they are asked, as in `Route`.
    """

    dialect: str


@runtime_checkable
class ImageReader(Protocol):
    """An engine that takes images in chats, where the weights do."""

    def reads_images(self, weights: Path) -> bool:
        """Raises `OSError`."""
        ...


@runtime_checkable
class Projecting(Protocol):
    """An engine that takes images with a projector, `ReplicaPlan.projector`. `image_types`: of
    what media types.
    """

    image_types: tuple[str, ...]

    def takes_projector(self, format: str) -> bool:
        """With weights of that format."""
        ...


class AdapterRefused(ModelryError):
    """A replica did not take an adapter, in the engine's words."""

    code = "adapter_refused"
