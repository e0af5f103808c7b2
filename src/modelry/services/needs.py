"""What a revision's replicas need, looked up in the catalogue."""

from collections.abc import Mapping

from modelry.catalog.cards import Variant
from modelry.catalog.catalog import Catalog
from modelry.db import Session
from modelry.engines.base import Engine
from modelry.services.situation import WeightsFailed
from modelry.services.spec import ServiceSpec
from modelry.services.supplies import Needs


async def needs_of(
    session: Session, catalog: Catalog, engines: Mapping[str, Engine], spec: ServiceSpec
) -> Needs | WeightsFailed:
    """Or why they cannot be met: a model is gone from the catalogue."""
    variant = await _variant(session, catalog, spec.model, spec.variant)
    if variant is None:
        return WeightsFailed(
            f"its model {spec.model} ({spec.variant}) is no longer in the catalogue"
        )
    adapter = None
    if spec.adapter is not None:
        adapter = await _variant(session, catalog, spec.adapter, None)
        if adapter is None:
            return WeightsFailed(f"its adapter {spec.adapter_name} is no longer registered")
    engine = engines.get(spec.engine)
    return Needs(
        variant=variant,
        runtime=spec.runtime,
        converter=spec.gguf_converter,
        quantisation=spec.quantisation,
        adapter=adapter,
        gguf=engine is None or engine.supports("gguf", ()) is None,
        hosted=spec.host is not None,
    )


async def _variant(
    session: Session, catalog: Catalog, model_id: str, name: str | None
) -> Variant | None:
    model = await catalog.by_id(session, model_id)
    for variant in model.card.variants if model else ():
        if name is None or variant.name == name:
            return variant
    return None
