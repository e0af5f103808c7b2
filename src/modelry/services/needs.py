"""What a revision's replicas need, looked up in the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelry.catalog.catalog import Model
from modelry.engines.base import Engine, ImageReader, Ranking
from modelry.services.situation import WeightsFailed
from modelry.services.spec import ServiceSpec, Spec
from modelry.services.supplies import Needs, Supplies


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
        or (_reader(engine) is not None and "vision" in models[spec.model].card.tags),
    )


@dataclass(frozen=True)
class Traits:
    """What callers' requests meet in a service's replicas, by its weights. As in `Route`."""

    images: bool = False
    raw_scores: bool = False


NO_TRAITS = Traits()


def traits_of(
    tasks: Sequence[str],
    spec: Spec,
    needs: Needs | None,
    engines: Mapping[str, Engine],
    supplies: Supplies,
) -> Traits:
    """`needs` is None where the service has no replicas of ours."""
    if needs is None:
        return NO_TRAITS
    ranks = "rerank" in tasks and _raw_scores(spec, needs, engines, supplies)
    return Traits(_takes_images(spec, needs, engines, supplies), ranks)


def _raw_scores(
    spec: Spec, needs: Needs, engines: Mapping[str, Engine], supplies: Supplies
) -> bool:
    """Whether replicas of a service rank by scores of any size."""
    engine: object = engines.get(spec.engine) if isinstance(spec, ServiceSpec) else None
    supplied = supplies.ready(needs) if isinstance(engine, Ranking) else None
    return (
        isinstance(engine, Ranking)
        and supplied is not None
        and engine.raw_scores(supplied.weights.path)
    )


def _takes_images(
    spec: Spec, needs: Needs, engines: Mapping[str, Engine], supplies: Supplies
) -> bool:
    """Whether the chats of a service do. Where that goes by weights that are not here yet, they
    may: its calls wait for them anyway.
    """
    engine = engines.get(spec.engine) if isinstance(spec, ServiceSpec) else None
    reader = _reader(engine)
    if needs.images or reader is None:
        return needs.images
    supplied = supplies.ready(needs)
    return supplied is None or reader.reads_images(supplied.weights.path)


def _reader(engine: object) -> ImageReader | None:
    return engine if isinstance(engine, ImageReader) else None
