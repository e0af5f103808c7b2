"""Files elsewhere that weights are made of, and what their origin says of them."""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class RemoteFile:
    """`name`: its path among the others. Size and digest where the origin states them:
    `sha256` in hex, or `git_oid`, the SHA-1 by which git names a blob.

    `version`: what tells it from what was there before, where the origin has no digest.
    `headers` may hold a token: they go to the host of `url` alone.
    """

    name: str
    url: str = field(repr=False)
    size_bytes: int | None = None
    sha256: str | None = None
    git_oid: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    version: str = ""

    @property
    def identity(self) -> str:
        """What a part of it may be taken up under: the same for the same bytes only, as far as
        the origin lets us know.
        """
        told = self.sha256 or self.git_oid or f"{self.url} {self.size_bytes}{self.version}"
        return hashlib.sha256(f"{told}#{self.name}".encode()).hexdigest()


@dataclass(frozen=True)
class Listing:
    """What a source turned out to be. `revision`: its commit, where the origin has such."""

    files: tuple[RemoteFile, ...]
    revision: str | None = None

    @property
    def size_bytes(self) -> int | None:
        """Of all files; None where one does not say."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def git_digest(size: int) -> Digest:
    """Takes a blob's bytes and comes to what git calls it."""
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % size)
    return digest
