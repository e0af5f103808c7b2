"""Whether an adapter fits a base, told from headers alone, before anything is loaded.

An engine that finds a misfit says so when a replica starts, minutes later and in its
own words; this says it when somebody asks for the service.
"""

from pathlib import Path

from modelry.catalog.adapter_names import ARCHITECTURES, Architecture, gguf_name, layer_of
from modelry.catalog.adapters import Adapter, LoraPair, is_adapter
from modelry.catalog.formats import are_parts
from modelry.catalog.headers import Header, read_gguf, read_safetensors
from modelry.errors import InvalidRequest


class MisfitAdapter(InvalidRequest):
    """It was made for another base."""

    code = "adapter_does_not_fit"


def read_base(path: Path) -> Header:
    """The header of a base: of a GGUF file, or of all weights in a folder as one.

    Raises `DamagedFile`.
    """
    if not path.is_dir():
        return read_gguf(path)
    parts = sorted(path.glob("*.gguf"))
    if parts and (len(parts) == 1 or are_parts([part.name for part in parts])):
        headers = [read_gguf(part) for part in parts]
    else:
        headers = [read_safetensors(file) for file in sorted(path.glob("*.safetensors"))]
    metadata = headers[0].metadata if headers else {}
    return Header(
        metadata,
        {name: shape for header in headers for name, shape in header.tensors.items()},
        {name: dtype for header in headers for name, dtype in header.dtypes.items()},
    )


def check_adapter_fits(adapter: Adapter, base: Header) -> None:
    """Raises `MisfitAdapter` that says what does not fit. `base`: as `read_base` has it."""
    architecture = base.metadata.get("general.architecture")
    if isinstance(architecture, str):
        if is_adapter(base):
            raise MisfitAdapter("an adapter cannot be put on another adapter", param="model")
        _fits_gguf(adapter, base, architecture)
    elif adapter.kind == "gguf":
        raise _misfit(
            "it is a GGUF adapter, and the base's weights are no GGUF",
            "give the adapter as PEFT saves it, or choose a GGUF file of the base",
        )
    else:
        _fits_safetensors(adapter, base)


def known_architecture(name: str) -> Architecture:
    """Raises `MisfitAdapter` where PEFT adapters of such bases cannot be converted."""
    found = ARCHITECTURES.get(name)
    if found is None:
        raise _misfit(
            f"a PEFT adapter cannot be converted for a GGUF base of the architecture {name!r}",
            "give a GGUF adapter instead, or choose a base with safetensors weights; "
            f"conversion knows {', '.join(sorted(ARCHITECTURES))}",
        )
    return found


def gguf_names(adapter: Adapter, architecture: Architecture) -> dict[str, str]:
    """A PEFT adapter's tensors → what a GGUF base calls them. Raises `MisfitAdapter`."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name in adapter.pairs:
        known = gguf_name(architecture, name)
        if known is None:
            raise _misfit(f"it changes {name!r}, which is not known in a base of this architecture")
        if known in taken:
            raise _misfit(f"it changes {known} twice")
        names[name] = known
        taken.add(known)
    return names


def _fits_gguf(adapter: Adapter, base: Header, architecture: str) -> None:
    if adapter.kind == "gguf":
        if adapter.architecture != architecture:
            raise _misfit(
                f"it is made for the architecture {adapter.architecture!r}, and the base is "
                f"{architecture!r}"
            )
        names = {name: name for name in adapter.pairs}
    else:
        names = gguf_names(adapter, known_architecture(architecture))
    layers = base.metadata.get(f"{architecture}.block_count")
    if type(layers) is not int:
        layers = _layers(base)
    _refuse_layers(adapter, layers)
    for name, pair in adapter.pairs.items():
        shape = base.tensors.get(names[name])
        if shape is None:
            raise _unknown(names[name])
        _check_shape(names[name], pair, shape[::-1])


def _fits_safetensors(adapter: Adapter, base: Header) -> None:
    _refuse_layers(adapter, _layers(base))
    for name, pair in adapter.pairs.items():
        shape = base.tensors.get(name)
        if shape is not None:
            _check_shape(name, pair, shape)
        elif not _is_packed(name, base):
            raise _unknown(name)


def _is_packed(name: str, base: Header) -> bool:
    """Whether the base has it quantised, as GPTQ and AWQ do: its shape is then not the matrix's."""
    module = name.removesuffix(".weight")
    return any(f"{module}.{each}" in base.tensors for each in ("qweight", "weight_packed"))


def _layers(base: Header) -> int:
    found = [layer for name in base.tensors if (layer := layer_of(name)) is not None]
    return max(found) + 1 if found else 0


def _refuse_layers(adapter: Adapter, layers: int) -> None:
    most = max((layer_of(name) or 0) + 1 for name in adapter.pairs)
    if layers and most > layers:
        raise _misfit(f"it has {most} layers or more, and the base has {layers}")


def _check_shape(name: str, pair: LoraPair, shape: tuple[int, ...]) -> None:
    if shape != (pair.outputs, pair.inputs):
        found = " × ".join(map(str, shape))
        raise _misfit(
            f"it changes {name} as a matrix of {pair.outputs} × {pair.inputs}, and the base's is "
            f"{found}"
        )


def _unknown(name: str) -> MisfitAdapter:
    return _misfit(f"it changes {name!r}, which the base does not have")


def _misfit(reason: str, hint: str | None = None) -> MisfitAdapter:
    return MisfitAdapter(
        f"the adapter does not fit: {reason}",
        hint=hint or "choose the base that it was trained on",
        param="adapter",
    )
