"""Images by address, brought before their call takes a slot."""

import asyncio
import binascii
from collections.abc import Callable, Sequence

from modelry.gateway import pictures
from modelry.gateway.picture_parts import Link, data_url, invalid, require_type
from modelry.gateway.pictures import NotAPicture
from modelry.gateway.replies import error
from modelry.gateway.web import Unfetched, Web

_AT_ONCE = 4
"""Of one call."""
_OPAQUE = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Content-Types of stores that do not know what they keep."""

Hold = Callable[[int], bool]
"""Whether so many bytes more may be held for the call."""


class PictureFetch:
    """`web` is None where addresses are not followed."""

    def __init__(self, web: Web | None) -> None:
        self._web = web

    async def bring(self, links: Sequence[Link], hold: Hold) -> None:
        """Put each image itself in the place of its address. Raises a `Reply`, of the first that
        fails; the others are given up.
        """
        web = self._web
        if web is None:
            told = "has an address, and addresses are not followed here: send it as a data URL"
            raise invalid(links[0].where, told)
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(link: Link) -> None:
            async with places:
                link.bring(await _fetched(web, link, hold))

        try:
            async with asyncio.TaskGroup() as group:
                for link in links:
                    group.create_task(one(link))
        except BaseExceptionGroup as problems:
            raise problems.exceptions[0] from None


async def _fetched(web: Web, link: Link, hold: Hold) -> str:
    file = _File(hold)
    try:
        content_type = await web.get(link.address, file.take)
        if not content_type.startswith("image/") and content_type not in _OPAQUE:
            raise NotAPicture("is none: its server says that it is something else")
        picture = pictures.look(bytes(file.head))
        require_type(picture.media_type, link.types)
    except (Unfetched, NotAPicture) as problem:
        raise invalid(link.where, str(problem)) from None
    return data_url(picture.media_type, file.coded())


class _File:
    """Coded while it comes: at once, twenty megabytes would stop the gateway for a moment."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._coded = bytearray()
        self._rest = b""
        self.head = bytearray()

    def take(self, data: bytes) -> None:
        if not self._hold(len(data) * 4 // 3 + 4):
            message = "The requests that are arriving now are too large together. Please try again."
            raise error(503, "overloaded", message, retry_after_s=1)
        if len(self.head) < pictures.HEAD_BYTES:
            self.head += data[: pictures.HEAD_BYTES - len(self.head)]
        data = self._rest + data
        whole = len(data) // 3 * 3
        self._coded += binascii.b2a_base64(data[:whole], newline=False)
        self._rest = data[whole:]

    def coded(self) -> bytearray:
        self._coded += binascii.b2a_base64(self._rest, newline=False)
        self._rest = b""
        return self._coded
