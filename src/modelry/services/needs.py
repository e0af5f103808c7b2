"""What a revision's replicas need, looked up in the catalogue."""

from collections.abc import Mapping

from modelry.catalog.catalog import Model
from modelry.engines.base import Engine, ImageReader
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
    model = models.get(spec.model)
    variant = None if model is None else model.card.variant(spec.variant)
    if variant is None:
        return WeightsFailed(
            f"its model {spec.model} ({spec.variant}) is no longer in the catalogue"
        )
    adapter = None
    if spec.adapter is not None:
        if spec.adapter not in models:
            return WeightsFailed(f"its adapter {spec.adapter_name} is no longer registered")
        adapter = models[spec.adapter].card.default_variant
    engine = engines.get(spec.engine)
    return Needs(
        variant=variant,
        projector=variant.projector_variant if spec.projector else None,
        runtime=spec.runtime,
        converter=spec.gguf_converter,
        quantisation=spec.quantisation,
        adapter=adapter,
        gguf=engine is None or engine.supports("gguf", ()) is None,
        hosted=spec.host is not None,
        rank_max=None if engine is None or adapter is None else engine.adapter_rank_max,
        images=spec.projector
        or (_reads_images(engine) and "vision" in models[spec.model].card.tags),
    )


def _reads_images(engine: object) -> bool:
    return isinstance(engine, ImageReader)
