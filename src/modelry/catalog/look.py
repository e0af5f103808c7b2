"""A first look at a source, when somebody names it: what it is, before any of it is fetched."""

from dataclasses import dataclass, replace
from pathlib import Path

from modelry.catalog.fetch import list_remote
from modelry.catalog.formats import NOTHING, Allowed, Format, format_of
from modelry.catalog.hubs import HubSettings
from modelry.catalog.local import below, embedded, require_file
from modelry.catalog.sources import (
    BucketFiles,
    EmbeddedFiles,
    HubFiles,
    LocalFile,
    PackageFile,
    PackageFolder,
    Source,
    UploadedFiles,
    WebFile,
)
from modelry.errors import InvalidRequest


@dataclass(frozen=True)
class Found:
    """`source`: pinned to the commit that was found, where there are such."""

    source: Source
    format: Format
    size_bytes: int | None = None


def look(source: Source, hubs: HubSettings, allowed: Allowed = NOTHING) -> Found:
    """Asks hubs, and nobody else. Raises `InvalidRequest` or `FetchError`."""
    match source:
        case LocalFile():
            return _local(source, Path(source.path), allowed)
        case EmbeddedFiles():
            return _local(source, embedded(source.name), allowed)
        case PackageFile():
            return Found(source, format_of([source.member], allowed))
        case PackageFolder():
            raise InvalidRequest(
                "source: what a package's folder holds is known only once it is here",
                hint="write a model card that says the format, or name one file of the package",
                param="source",
            )
        case WebFile():
            return Found(source, format_of([source.url.partition("?")[0]], allowed))
        case BucketFiles():
            listing = list_remote(source, hubs, allowed)
            names = [file.name for file in listing.files]
            return Found(source, format_of(names, allowed), listing.size_bytes)
        case UploadedFiles():
            # `admit` lets nobody name one.
            raise InvalidRequest("source: an upload cannot be looked at", param="source")
        case HubFiles():
            listing = list_remote(source, hubs, allowed)
            names = [file.name for file in listing.files]
            pinned = source
            # ModelScope's commits are of single files.
            if source.hub == "hf":
                pinned = replace(source, revision=listing.revision)
            return Found(pinned, format_of(names, allowed), listing.size_bytes)


def _local(source: Source, path: Path, allowed: Allowed) -> Found:
    try:
        require_file(path)
        names = below(path, allowed) if path.is_dir() else [path.name]
        sizes = [(path / name if path.is_dir() else path).stat().st_size for name in names]
    except InvalidRequest as error:
        raise InvalidRequest(f"{error.message}: {path}", hint=error.hint, param="source") from None
    except OSError as error:
        raise InvalidRequest(
            f"source: {path} cannot be read on the control plane's machine: {error.strerror}",
            param="source",
        ) from None
    return Found(source, format_of(names, allowed), sum(sizes))
