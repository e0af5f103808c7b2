"""The control plane's parts, wired: what `control` makes and `management` serves."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelry.access.keys import Keys
from modelry.api.feed_server import FeedServer
from modelry.catalog.catalog import Catalog
from modelry.catalog.choice import Machine
from modelry.catalog.conversions import Conversions
from modelry.catalog.fetches import Fetches
from modelry.catalog.offers import Offers
from modelry.catalog.uploads import Uploads
from modelry.catalog.weights import WeightsStore
from modelry.db import Database
from modelry.engines.base import Engine
from modelry.engines.installer import Runtimes
from modelry.executors.base import Executor
from modelry.routing.feed import Feed
from modelry.services.conformance.probing import Conformance
from modelry.services.hosting import Hosting
from modelry.services.lifecycle import Lifecycle
from modelry.services.reconciler import Reconciler
from modelry.services.sampling import Sampling
from modelry.settings import Settings
from modelry.usage.metrics import Metrics


@dataclass(frozen=True)
class Parts:
    settings: Settings
    db: Database
    feed: Feed
    feed_server: FeedServer
    keys: Keys
    metrics: Metrics
    catalog: Catalog
    fetches: Fetches
    conversions: Conversions
    hosting: Hosting
    offers: Offers
    uploads: Uploads
    weights: WeightsStore
    engines: Mapping[str, Engine]
    executor: Executor
    runtimes: Runtimes
    machine: Machine
    reconciler: Reconciler
    lifecycle: Lifecycle
    conformance: Conformance
    sampling: Sampling
