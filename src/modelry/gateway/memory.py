"""How much memory what callers send may take together, in one gateway process.

Each body has a limit of its own, and so has the number of connections, but
their product is more than any machine has. Small bodies that come in one piece
are not counted: the connections, and how many requests each may send ahead, bound
what they take, and they are nearly all. What is held of answers (`held.py`) counts too.
"""

from modelry.gateway.request import Request

SMALL_BYTES = 16 * 1024


class Memory:
    """`most_bytes` in all, of which strangers, who have shown no key, get a quarter."""

    def __init__(self, most_bytes: int, body_bytes: int = 0) -> None:
        """`body_bytes`: the largest body of a stranger, which there is always room for."""
        self._most = max(most_bytes, body_bytes)
        self._strangers_most = max(most_bytes // 4, body_bytes)
        self.held_bytes = 0
        self.strangers_bytes = 0
        """Of them, those that strangers hold."""

    def take(self, size: int, *, stranger: bool) -> bool:
        """Whether `size` bytes more may be held; then they are counted."""
        if self.held_bytes + size > self._most:
            return False
        if stranger:
            if self.strangers_bytes + size > self._strangers_most:
                return False
            self.strangers_bytes += size
        self.held_bytes += size
        return True

    def give_back(self, size: int, *, stranger: bool) -> None:
        self.held_bytes -= size
        if stranger:
            self.strangers_bytes -= size

    def hold(self, request: Request, size: int) -> bool:
        """Whether `size` bytes more of its body may be held."""
        if size <= SMALL_BYTES and not request.body:
            return True
        if not request.held_bytes:
            # A first piece that was too small to count.
            size += len(request.body)
            request.held_of_stranger = request.of_stranger
        if not self.take(size, stranger=request.held_of_stranger):
            return False
        request.held_bytes += size
        return True

    def release(self, request: Request) -> None:
        """The request is over: nobody needs its body."""
        request.body = b""
        size = request.held_bytes
        if size:
            request.held_bytes = 0
            self.give_back(size, stranger=request.held_of_stranger)
