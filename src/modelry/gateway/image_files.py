"""Images that calls made, kept for a while for whoever has their signed address.

    /v1/images/files/<name>.png?expires=<Unix seconds>&signature=<hex>

The address alone lets its holder in, as an API key is nothing a browser would send with an
`<img>`. It ends with its hour, and so does the file. Every gateway of a data directory can
serve what another has kept.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from modelry.errors import ModelryError
from modelry.gateway.replies import Reply, error
from modelry.gateway.request import Request

log = logging.getLogger(__name__)

PREFIX = b"/v1/images/files/"

TYPES = {"png": b"image/png", "jpeg": b"image/jpeg", "webp": b"image/webp"}
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"RIFF", "webp"))
_NAME = re.compile(rb"[0-9a-f]{32}\.(png|jpeg|webp)")
_DRAFT = ".new"
_DRAFT_LOST_S = 60.0


class ImageFiles:
    """`key`: gives the key that addresses are signed with, raising a `ModelryError` where there is
    none; `ttl_s`: how long they last; `most_bytes`: of all files together, beyond which the oldest
    go before their time.
    """

    def __init__(
        self, folder: Path, key: Callable[[], bytes], *, ttl_s: float, most_bytes: int
    ) -> None:
        self._folder = folder
        self._key = key
        self._ttl_s = ttl_s
        self._most_bytes = most_bytes

    def keep(self, image: bytes) -> str:
        """Store an image. Returns its address after the host. Raises `ModelryError`."""
        kind = next((kind for magic, kind in _MAGIC if image.startswith(magic)), None)
        if kind is None:
            raise ModelryError("the engine's image is of no kind that can be served")
        name = f"{secrets.token_hex(16)}.{kind}"
        draft = self._folder / f"{name}{_DRAFT}"
        try:
            self._folder.mkdir(exist_ok=True, mode=0o700)
            draft.write_bytes(image)
            draft.rename(self._folder / name)
        except OSError as problem:
            draft.unlink(missing_ok=True)
            raise ModelryError(f"the image could not be kept: {problem.strerror}") from None
        expires = int(time.time() + self._ttl_s)
        return f"{PREFIX.decode()}{name}?expires={expires}&signature={self._sign(name, expires)}"

    def answer(self, request: Request) -> Reply:
        """What a request for such an address gets. Raises a `Reply` that refuses it."""
        if request.method not in (b"GET", b"HEAD"):
            message = f"Use GET here, not {request.method.decode()}."
            raise error(405, "method_not_allowed", message, allow="GET, HEAD")
        name, expires = self._checked(request)
        try:
            image = (self._folder / name).read_bytes()
        except OSError:
            raise _gone() from None
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
        return Reply(200, image, lines=lines)

    def sweep(self) -> None:
        """Delete what has expired, and the oldest of what is too much."""
        now, left, kept = time.time(), 0, []
        try:
            entries = list(os.scandir(self._folder))
        except FileNotFoundError:
            return
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            patience_s = _DRAFT_LOST_S if entry.name.endswith(_DRAFT) else self._ttl_s
            if now - found.st_mtime > patience_s:
                self._delete(entry.path)
            else:
                kept.append((found.st_mtime, found.st_size, entry.path))
                left += found.st_size
        kept.sort()
        for _, size, path in kept:
            if left <= self._most_bytes:
                break
            self._delete(path)
            left -= size

    def _checked(self, request: Request) -> tuple[str, int]:
        """The name of the file that is asked for, and when its address ends."""
        name = request.path[len(PREFIX) :]
        query = parse_qs(request.target.partition(b"?")[2].decode("ascii", "replace"))
        expires, signature = query.get("expires", [""])[0], query.get("signature", [""])[0]
        if not _NAME.fullmatch(name) or not re.fullmatch("[0-9]{1,12}", expires):
            raise error(404, "not_found", "There is no such image here.")
        told = name.decode()
        if not hmac.compare_digest(self._sign(told, int(expires)), signature):
            message = "The image's address was not signed here; it has to be used as it was given."
            raise error(403, "invalid_signature", message)
        if int(expires) <= time.time():
            raise _gone()
        return told, int(expires)

    def _sign(self, name: str, expires: int) -> str:
        told = f"{name} {expires}".encode()
        return hmac.new(self._key(), told, hashlib.sha256).hexdigest()

    @staticmethod
    def _delete(path: str) -> None:
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as problem:
            log.warning("%s could not be deleted: %s", path, problem.strerror)


def _gone() -> Reply:
    message = "The image's address has expired. Ask for b64_json to get the image itself."
    return error(410, "image_expired", message)
