"""Places that keys share: so many in all, and of them so many for each."""

import asyncio
from collections.abc import Callable


class _Share:
    def __init__(self, places: int) -> None:
        self.places = asyncio.Semaphore(places)
        self.users = 0
        """Those who have a place of it, and those who wait for one."""


class Shares:
    """`most` places in all, `each` for one key."""

    def __init__(self, most: int, each: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._each = each
        self._shares: dict[str, _Share] = {}

    async def take(self, key_id: str) -> Callable[[], None]:
        """Wait for a place; what is returned gives it back, and is called exactly once.

        A key that waits for its own share keeps no place from the others.
        """
        share = self._shares.get(key_id)
        if share is None:
            share = self._shares[key_id] = _Share(self._each)
        share.users += 1
        try:
            await share.places.acquire()
            try:
                await self._all.acquire()
            except BaseException:
                share.places.release()
                raise
        except BaseException:
            self._left(key_id, share)
            raise

        def leave() -> None:
            self._all.release()
            share.places.release()
            self._left(key_id, share)

        return leave

    def _left(self, key_id: str, share: _Share) -> None:
        share.users -= 1
        if not share.users:
            del self._shares[key_id]
