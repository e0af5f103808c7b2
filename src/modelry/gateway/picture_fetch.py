"""Images by address, brought before their call takes a slot."""

import asyncio
import binascii
from collections.abc import Callable, Sequence

from modelry.gateway import pictures
from modelry.gateway.picture_parts import Image
from modelry.gateway.picture_urls import data_url
from modelry.gateway.pictures import NotAPicture
from modelry.gateway.replies import Reply, error
from modelry.gateway.web import Crowded, Unfetched, Web

_AT_ONCE = 4
"""Of one call."""
_RETRY_AFTER_S = 2
_OPAQUE = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Content-Types of stores that do not know what they keep."""

Hold = Callable[[int], bool]
"""Whether so many bytes more may be held for the call."""


class PictureFetch:
    """`web` is None where addresses are not followed. `most_bytes`: of a body, with all images
    that come for it.
    """

    def __init__(self, web: Web | None, most_bytes: int) -> None:
        self._web = web
        self._most_bytes = most_bytes

    async def bring(
        self, images: Sequence[Image], hold: Hold, *, key_id: str, body_bytes: int
    ) -> None:
        """Put each image itself in the place of its address. Raises a `Reply`, of the first that
        fails; the others are given up.
        """
        web = self._web
        if web is None:
            told = "has an address, and addresses are not followed here: send it as a data URL"
            raise images[0].invalid(told)
        places = asyncio.Semaphore(_AT_ONCE)
        room = _Room(hold, self._most_bytes, body_bytes)

        async def one(image: Image) -> None:
            async with places:
                await _fetch(web, image, room, key_id)

        try:
            async with asyncio.TaskGroup() as group:
                for image in images:
                    group.create_task(one(image))
        except BaseExceptionGroup as problems:
            raise problems.exceptions[0] from None


async def _fetch(web: Web, image: Image, room: "_Room", key_id: str) -> None:
    assert image.link is not None
    file = _File(room)
    try:
        content_type = await web.get(image.link, file.take, key_id)
        if not content_type.startswith("image/") and content_type not in _OPAQUE:
            raise NotAPicture("is none: its server says that it is something else")
        picture = pictures.look(bytes(file.head))
    except (Unfetched, NotAPicture) as problem:
        raise image.invalid(str(problem)) from None
    except Crowded:
        raise _overloaded("Too many images are fetched now.") from None
    image.bring(picture.media_type, data_url(picture.media_type, file.coded()))


class _Room:
    """What all images of a call may take together, as they stand in its body."""

    def __init__(self, hold: Hold, most_bytes: int, body_bytes: int) -> None:
        self._hold = hold
        self._most_bytes = most_bytes
        self._left = most_bytes - body_bytes

    def take(self, size: int) -> None:
        """Raises `NotAPicture`, or a 503 where it is the requests of everybody that are large."""
        self._left -= size
        if self._left < 0:
            raise NotAPicture(
                "does not fit: a request with its images as data URLs may have "
                f"{self._most_bytes} bytes"
            )
        if not self._hold(size):
            raise _overloaded("The requests that are arriving now are too large together.")


class _File:
    """Coded while it comes: at once, twenty megabytes would stop the gateway for a moment."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self._coded = bytearray()
        self._rest = b""
        self.head = bytearray()

    def take(self, data: bytes) -> None:
        self._room.take(len(data) * 4 // 3 + 4)
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


def _overloaded(why: str) -> Reply:
    return error(503, "overloaded", f"{why} Please try again.", retry_after_s=_RETRY_AFTER_S)
