"""What a revision's replicas need, looked up in the catalogue."""

from collections.abc import Mapping

from modelry.catalog.cards import Variant
from modelry.catalog.catalog import Model
from modelry.engines.base import Engine
from modelry.services.situation import WeightsFailed
from modelry.services.spec import ServiceSpec
from modelry.services.supplies import Needs


def models_of(spec: ServiceSpec) -> set[str]:
    """The ids of the models that it names."""
    return {spec.model} if spec.adapter is None else {spec.model, spec.adapter}


def needs_of(
    models: Mapping[str, Model], engines: Mapping[str, Engine], spec: ServiceSpec
) -> Needs | WeightsFailed:
    """Or why they cannot be met: a model is gone from the catalogue. `models`: by id, at least
    those that the spec names.
    """
    variant = _variant(models, spec.model, spec.variant)
    if variant is None:
        return WeightsFailed(
            f"its model {spec.model} ({spec.variant}) is no longer in the catalogue"
        )
    adapter = None
    if spec.adapter is not None:
        adapter = _variant(models, spec.adapter, None)
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
        rank_max=None if engine is None or adapter is None else engine.adapter_rank_max,
    )


def _variant(models: Mapping[str, Model], model_id: str, name: str | None) -> Variant | None:
    model = models.get(model_id)
    for variant in model.card.variants if model else ():
        if name is None or variant.name == name:
            return variant
    return None
