"""Bundles: models with their weights in one file, for where no network leads.

A bundle is a tar, not compressed, of nothing but these members, in this order:

    manifest.json       the models, and the files that each is made of
    blobs/<sha256>      each of those files once, in the order in which the manifest names them

Pure, but for reading the files that are written. `bundle_import` reads bundles.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from modelry.catalog.cards import ModelCard, Task, Variant
from modelry.catalog.formats import Format
from modelry.catalog.weights import Weights, WeightsFile
from modelry.errors import InvalidRequest

VERSION = 1
"""Of a bundle of weights alone."""
VERSION_PROJECTORS = 2
"""Of one with projectors, which a Modelry that does not know them cannot take in."""
MANIFEST = "manifest.json"
MANIFEST_MAX = 16 * 1024 * 1024
BLOCK = 512
"""Of a tar: every header is one, every member is padded to one."""
END = bytes(2 * BLOCK)
_READ = 1024 * 1024

_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
_Text = Annotated[str, msgspec.Meta(max_length=1000)]


class BundledFile(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    size_bytes: _Size
    sha256: _Digest


class BundledProjector(msgspec.Struct, frozen=True):
    """What turns images into tokens for a model, as a GGUF file."""

    source: _Text
    files: Annotated[list[BundledFile], msgspec.Meta(min_length=1, max_length=1)]
    revision: _Text | None = None
    folder: bool = False


class BundledModel(msgspec.Struct, frozen=True):
    """`folder`: whether an engine opens the folder of the files, or the one file itself."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    tasks: Annotated[list[Task], msgspec.Meta(min_length=1, max_length=7)]
    format: Format
    source: _Text
    folder: bool
    files: Annotated[list[BundledFile], msgspec.Meta(min_length=1, max_length=2000)]
    revision: _Text | None = None
    licence: _Text | None = None
    homepage: _Text | None = None
    projector: BundledProjector | None = None

    @property
    def every_file(self) -> list[BundledFile]:
        """Its projector's with its own."""
        return self.files + (self.projector.files if self.projector is not None else [])


class Manifest(msgspec.Struct, frozen=True):
    version: int
    models: Annotated[list[BundledModel], msgspec.Meta(min_length=1, max_length=200)]

    def blobs(self) -> list[BundledFile]:
        """Every file once, in the order of the members."""
        found = {file.sha256: file for model in self.models for file in model.every_file}
        return list(found.values())


@dataclass(frozen=True)
class Bundle:
    """A manifest, and where the files lie that it names."""

    manifest: Manifest
    places: dict[str, Path]

    @property
    def length(self) -> int:
        """In bytes, to the last."""
        sizes = [len(self._manifest_json()), *(file.size_bytes for file in self.manifest.blobs())]
        return sum(BLOCK + size + padding(size) for size in sizes) + len(END)

    def parts(self) -> Iterator[bytes]:
        """The tar, bit by bit. Raises `OSError` where a file is not any more what it was."""
        manifest = self._manifest_json()
        yield _header(MANIFEST, len(manifest)) + manifest + bytes(padding(len(manifest)))
        for file in self.manifest.blobs():
            yield _header(member_of(file), file.size_bytes)
            left = file.size_bytes
            with self.places[file.sha256].open("rb") as source:
                while left:
                    data = source.read(min(_READ, left))
                    if not data:
                        raise OSError(f"{source.name} became shorter")
                    left -= len(data)
                    yield data
            yield bytes(padding(file.size_bytes))
        yield END

    def _manifest_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self.manifest), indent=2)


@dataclass(frozen=True)
class Packed:
    """A model with the weights that it has here, and its projector's where it has one."""

    card: ModelCard
    variant: Variant
    weights: Weights
    projector: Weights | None = None


def bundle_of(models: Sequence[Packed]) -> Bundle:
    bundled: list[BundledModel] = []
    places: dict[str, Path] = {}
    for packed in models:
        card, variant, weights = packed.card, packed.variant, packed.weights
        own = card.id.startswith("mdl_")
        bundled.append(
            BundledModel(
                name=card.name if own else card.id,
                tasks=list(card.tasks),
                format=variant.format,
                source=variant.source,
                folder=bool(weights.files),
                files=_packed(variant, weights, places),
                revision=weights.revision,
                licence=card.licence or None,
                homepage=card.homepage,
                projector=_packed_projector(packed, places),
            )
        )
    plain = all(model.projector is None for model in bundled)
    return Bundle(Manifest(VERSION if plain else VERSION_PROJECTORS, bundled), places)


def _packed(variant: Variant, weights: Weights, places: dict[str, Path]) -> list[BundledFile]:
    files = list(weights.files)
    if files:
        places.update({file.sha256: weights.path / file.name for file in files})
    else:
        files = [WeightsFile(_file_name(variant), weights.size_bytes, weights.sha256)]
        places[weights.sha256] = weights.path
    return [BundledFile(each.name, each.size_bytes, each.sha256) for each in files]


def _packed_projector(packed: Packed, places: dict[str, Path]) -> BundledProjector | None:
    variant, weights = packed.variant.projector_variant, packed.projector
    if variant is None or weights is None:
        return None
    return BundledProjector(
        source=variant.source,
        files=_packed(variant, weights, places),
        revision=weights.revision,
        folder=bool(weights.files),
    )


def parse_manifest(data: bytes) -> Manifest:
    """Raises `InvalidRequest` that says what is wrong with it."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version not in (VERSION, VERSION_PROJECTORS):
            raise InvalidRequest(
                f"the bundle is of version {version}, and {VERSION_PROJECTORS} is known here",
                hint="update Modelry, or export it with this version",
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the bundle's manifest is not valid: {error}") from None
    names = [model.name for model in manifest.models]
    if len(set(names)) != len(names):
        raise InvalidRequest("the bundle's manifest names a model twice")
    sizes: dict[str, int] = {}
    for model in manifest.models:
        if not model.folder and len(model.files) != 1:
            raise InvalidRequest(f"the bundle's model {model.name} is not one file, as it says")
        for file in model.every_file:
            if sizes.setdefault(file.sha256, file.size_bytes) != file.size_bytes:
                raise InvalidRequest(f"the bundle's manifest gives {file.name} two sizes")
    return manifest


class _Version(msgspec.Struct):
    version: int


def member_of(file: BundledFile) -> str:
    return f"blobs/{file.sha256}"


def padding(size: int) -> int:
    return -size % BLOCK


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    # GNU's form holds sizes beyond 8 GiB in the header itself.
    return info.tobuf(tarfile.GNU_FORMAT)


def _file_name(variant: Variant) -> str:
    """Of weights in one file: the last part of where they came from, if that is a file's name."""
    name = variant.source.rpartition("/")[2].partition("?")[0]
    plain = name.isascii() and name.isprintable() and 0 < len(name) < 200
    ending = f".{variant.format}"
    return name if plain and name.lower().endswith(ending) else f"model{ending}"
