"""Images that calls made, kept for a while for whoever has their signed address.

    /v1/images/files/<name>.png?expires=<Unix seconds>&signature=<hex>

The address alone lets its holder in, as an API key is nothing a browser would send with an
`<img>`. It ends with its hour, and so does the file. Every gateway of a data directory can
serve what another has kept. How a file goes out is `image_serving`'s.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import parse_qs

from modelry.errors import ModelryError
from modelry.gateway.kept_files import OWNER_DIGITS, KeptFiles
from modelry.gateway.replies import Reply, error
from modelry.gateway.request import Request

log = logging.getLogger(__name__)

PREFIX = b"/v1/images/files/"

TYPES = {"png": b"image/png", "jpeg": b"image/jpeg", "webp": b"image/webp"}
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"RIFF", "webp"))
_NAME = re.compile(rb"[0-9a-f]{32}\.(png|jpeg|webp)")
_EXPIRES = re.compile("[0-9]{1,12}")
_SIGNATURE = re.compile("[0-9a-f]{64}")


class SigningKey(Protocol):
    """Gives the key that addresses are signed with. Raises a `ModelryError` where there is none;
    with `make` it is made.
    """

    def __call__(self, *, make: bool) -> bytes: ...


@dataclass(frozen=True)
class OpenImage:
    """`lines`: header lines of its answer; `owner`: stands for whose it is. Whoever has it closes
    `file`.
    """

    file: BinaryIO
    owner: str
    size: int
    lines: bytes


class ImageFiles:
    """`ttl_s`: how long addresses last; `most_bytes`: of all files together, beyond which images
    go before their time: of whoever holds most, the oldest first.

    `keep` and `sweep` take their time: they are for threads, any number at once.
    """

    def __init__(self, folder: Path, key: SigningKey, *, ttl_s: float, most_bytes: int) -> None:
        self._files = KeptFiles(folder, "image", ttl_s=ttl_s, most_bytes=most_bytes)
        self._key = key
        self._ttl_s = ttl_s

    def keep(self, image: bytes, owner: str) -> str:
        """Store an image of `owner`'s. Returns its address after the host.

        Raises `ModelryError`, also where the disk is nearly full.
        """
        kind = next((kind for magic, kind in _MAGIC if image.startswith(magic)), None)
        if kind is None:
            raise ModelryError("the engine's image is of no kind that can be served")
        key = self._key(make=True)
        name = f"{_tag(key, owner)}{secrets.token_hex(16)[OWNER_DIGITS:]}.{kind}"
        self._files.keep(name, image)
        expires = int(time.time() + self._ttl_s)
        return f"{PREFIX.decode()}{name}?expires={expires}&signature={_sign(key, name, expires)}"

    def open(self, request: Request) -> OpenImage:
        """What a request for such an address is to get. Raises a `Reply` that refuses it."""
        if request.method not in (b"GET", b"HEAD"):
            message = f"Use GET here, not {request.method.decode()}."
            raise error(405, "method_not_allowed", message, allow="GET, HEAD")
        name, expires = self._checked(request)
        try:
            file = self._files.path(name).open("rb")
        except FileNotFoundError:
            message = "The image was removed before its time, to make room for others."
            raise _gone(message) from None
        except OSError as problem:
            log.warning("%s could not be opened: %s", name, problem.strerror)
            message = "The image cannot be read now. Please try again."
            raise error(503, "overloaded", message, retry_after_s=1) from None
        lines = b"content-type: %b\r\ncache-control: private, max-age=%d, immutable\r\n" % (
            TYPES[name.rpartition(".")[2]],
            max(0, expires - int(time.time())),
        )
        # Whatever an engine made is a picture and nothing else to a browser.
        lines += (
            b"x-content-type-options: nosniff\r\n"
            b"content-security-policy: default-src 'none'; sandbox\r\n"
            b"cross-origin-resource-policy: cross-origin\r\n"
        )
        return OpenImage(file, name[:OWNER_DIGITS], os.fstat(file.fileno()).st_size, lines)

    def sweep(self) -> None:
        """Delete what has expired, and what is too much."""
        self._files.sweep()

    # -- addresses -----------------------------------------------------------

    def _checked(self, request: Request) -> tuple[str, int]:
        """The name of the file that is asked for, and when its address ends."""
        name = request.path[len(PREFIX) :]
        query = parse_qs(request.target.partition(b"?")[2].decode("ascii", "replace"))
        expires, signature = query.get("expires", [""])[0], query.get("signature", [""])[0]
        if not _NAME.fullmatch(name) or not _EXPIRES.fullmatch(expires):
            raise _unknown()
        try:
            key = self._key(make=False)
        except ModelryError:
            # Where nothing was ever signed, there is nothing; a stranger is not to change that.
            raise _unknown() from None
        told = name.decode()
        if not _SIGNATURE.fullmatch(signature) or not hmac.compare_digest(
            _sign(key, told, int(expires)).encode(), signature.encode()
        ):
            message = "The image's address was not signed here; it has to be used as it was given."
            raise error(403, "invalid_signature", message)
        if int(expires) <= time.time():
            raise _gone("The image's address has expired.")
        return told, int(expires)


def _tag(key: bytes, owner: str) -> str:
    """The same for all images of an owner; it tells nobody who that is."""
    return hmac.new(key, b"owner " + owner.encode(), hashlib.sha256).hexdigest()[:OWNER_DIGITS]


def _sign(key: bytes, name: str, expires: int) -> str:
    return hmac.new(key, f"{name} {expires}".encode(), hashlib.sha256).hexdigest()


def _unknown() -> Reply:
    return error(404, "not_found", "There is no such image here.")


def _gone(why: str) -> Reply:
    return error(410, "image_expired", f"{why} Ask for b64_json to get images themselves.")
