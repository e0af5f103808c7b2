"""Kept images on their way to whoever has their address, a slice at a time.

Nobody who asks for them has shown a key, so what they can take is bounded: a slice of memory each,
and so many at a time, of one owner's images fewer: one address must not keep all others from being
fetched. A slice is read within the event loop: it lies in the system's cache, and
what is on a disk comes in a fraction of a millisecond.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from modelry.gateway.answers import AnswerWriter, Job
from modelry.gateway.image_files import ImageFiles, OpenImage
from modelry.gateway.replies import error
from modelry.gateway.request import Request

AT_ONCE = 256
AT_ONCE_EACH = 64
"""Of one owner's."""
_SLICE = 128 * 1024
_PATIENCE_S = 60.0
_PACE = 32 * 1024
"""Bytes a second, less than which nobody may take for long."""


class ImageServing:
    """`at_once`: how many images may be under way, `each`: of one owner; `patience_s`: how long
    the smallest may be.
    """

    def __init__(
        self,
        files: ImageFiles,
        *,
        at_once: int = AT_ONCE,
        each: int = AT_ONCE_EACH,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._files = files
        self._at_once = at_once
        self._each = each
        self._patience_s = patience_s
        self._under_way: Counter[str] = Counter()
        """Owner → images; none of who has none, for `total` goes over all of them."""

    def start(self, request: Request, client: AnswerWriter) -> Job | None:
        """None where it is answered already. Raises a `Reply` that refuses it."""
        image = self._files.open(request)
        if request.method == b"HEAD":
            image.file.close()
            client.begin(200, image.lines, image.size)
            client.finish()
            return None
        owner, under_way = image.owner, self._under_way
        if under_way[owner] >= self._each or under_way.total() >= self._at_once:
            image.file.close()
            message = "Too many images are being fetched now. Please try again."
            raise error(503, "overloaded", message, retry_after_s=1)
        under_way[owner] += 1
        patience_s = self._patience_s + image.size / _PACE
        return _Download(image, client, patience_s, lambda: self._ended(owner))

    def _ended(self, owner: str) -> None:
        self._under_way[owner] -= 1
        if not self._under_way[owner]:
            del self._under_way[owner]


class _Download:
    """`ended` is called once, when its file is closed."""

    def __init__(
        self, image: OpenImage, client: AnswerWriter, patience_s: float, ended: Callable[[], None]
    ) -> None:
        self._file = image.file
        self._left = image.size
        self._client = client
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._writable = True
        # The caller who takes nothing is dropped by the connection; this is for one who dawdles.
        self._patience = self._loop.call_later(patience_s, self._break_off)
        client.begin(200, image.lines, image.size)
        # Not within the call that starts it: a job ends only after that.
        self._next: asyncio.Handle | None = self._loop.call_soon(self._send)

    def hurry(self) -> None:
        """It is soon over by itself."""

    def sweep(self, now: float) -> None:
        """It waits for its caller alone."""

    def client_gone(self) -> None:
        self._close()

    def client_writable(self, writable: bool) -> None:
        self._writable = writable
        self._go_on()

    def _go_on(self) -> None:
        # A slice in each round of the loop, however fast its caller is.
        if self._writable and self._next is None and not self._file.closed:
            self._next = self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._next = None
        if not self._writable:
            return
        try:
            data = self._file.read(min(_SLICE, self._left))
        except OSError:
            data = b""
        if self._left and not data:
            self._break_off()
            return
        self._left -= len(data)
        self._client.write(data)
        if self._left:
            self._go_on()
        else:
            self._close()
            self._client.finish()

    def _break_off(self) -> None:
        self._close()
        self._client.abort()

    def _close(self) -> None:
        if self._file.closed:
            return
        self._file.close()
        self._patience.cancel()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._ended()
