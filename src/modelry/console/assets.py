"""The console's static files: read once, compressed, and named by what is in them.

Their address has a digest of all of them, so that browsers may keep them for ever and never mix
two versions; modules import one another by relative addresses. The stylesheet is put together
from the files of `styles/`, in the order of their names.
"""

import gzip
import hashlib
import re
from functools import cached_property
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response
from markupsafe import Markup

from modelry.errors import NotFound

_STATIC = Path(__file__).parent / "static"
_STYLES = Path(__file__).parent / "styles"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"


class _Asset:
    def __init__(self, content: bytes, media_type: str) -> None:
        self.content = content
        self.media_type = media_type

    @cached_property
    def compressed(self) -> bytes:
        return gzip.compress(self.content, mtime=0)


class Assets:
    def __init__(self) -> None:
        self._assets = {
            path.relative_to(_STATIC).as_posix(): _Asset(path.read_bytes(), _TYPES[path.suffix])
            for path in sorted(_STATIC.rglob("*"))
            if path.suffix in _TYPES
        }
        styles = "\n".join(path.read_text() for path in sorted(_STYLES.glob("*.css")))
        self._assets["console.css"] = _Asset(styles.encode(), _TYPES[".css"])
        whole = hashlib.sha256()
        for name, asset in sorted(self._assets.items()):
            whole.update(f"{name} {hashlib.sha256(asset.content).hexdigest()}\n".encode())
        self.version = whole.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Raises `KeyError` for a file that there is not."""
        self._assets[name]
        return f"/static/{self.version}/{name}"

    def icon(self, name: str, size: int = 18) -> Markup:
        """An icon's drawing, for the page itself; it says nothing to who does not see it."""
        svg = self._assets[f"vendor/lucide/{name}.svg"].content.decode()
        drawing = re.sub(r"\s+", " ", svg[svg.index(">", svg.index("<svg")) + 1 :]).strip()
        return Markup(  # noqa: S704 - the file is ours
            f'<svg class="icon" width="{size}" height="{size}" viewBox="0 0 24 24" fill="none" '
            'stroke="currentColor" stroke-width="2" stroke-linecap="round" '
            f'stroke-linejoin="round" aria-hidden="true">{drawing}'
        )

    def answer(self, request: Request, version: str, name: str) -> Response:
        """Raises `NotFound`."""
        asset = self._assets.get(name)
        if asset is None:
            raise NotFound(f"there is no {name}")
        headers = {
            # A page from before an upgrade gets what there is now, and keeps it for no other.
            "cache-control": _FOREVER if version == self.version else "no-store",
            "x-content-type-options": "nosniff",
            "vary": "accept-encoding",
        }
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(asset.content, media_type=asset.media_type, headers=headers)
        headers["content-encoding"] = "gzip"
        return Response(asset.compressed, media_type=asset.media_type, headers=headers)
