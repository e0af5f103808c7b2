"""What the console's pages show and do: the parts of the control plane behind them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from modelry.access.keys import Keys
from modelry.access.sessions import Sessions
from modelry.access.tokens import Tokens
from modelry.catalog.catalog import Catalog
from modelry.catalog.choice import Machine
from modelry.catalog.fetches import Fetches
from modelry.catalog.offers import Offers
from modelry.catalog.uploads import Uploads
from modelry.db import Database
from modelry.engines.installer import Runtimes
from modelry.executors.base import Executor
from modelry.executors.nodes import Nodes
from modelry.services.conformance.probing import Conformance
from modelry.services.engine_upkeep import EngineUpkeep
from modelry.services.lifecycle import Lifecycle
from modelry.services.reconciler import Reconciler


@dataclass(frozen=True)
class Site:
    """`published` returns once every gateway has heard what the feed holds; `public_base` gives
    the address that callers reach this installation by.
    """

    db: Database
    sessions: Sessions
    keys: Keys
    tokens: Tokens
    catalog: Catalog
    fetches: Fetches
    offers: Offers
    uploads: Uploads
    machine: Machine
    runtimes: Runtimes
    engines: EngineUpkeep
    executor: Executor
    nodes: Nodes
    reconciler: Reconciler
    lifecycle: Lifecycle
    conformance: Conformance
    published: Callable[[], Awaitable[None]]
    public_base: Callable[[Request], str]
