"""A replica's process that does as it is told: answer, stream, dawdle, die half way.

    python fake_engine.py <unix:path | tcp:host:port> <control socket> <secret> [<default>] [<pem>]

With the PEM file of a certificate and its key, it speaks TLS.

What it does to a request stands in the request's own field `fake`, or in the
JSON `default` of the command line:

    {"do": "answer", "status"?, "delay_s"?, "text"?}    a JSON answer, `text` byte for byte;
                                                        `headers`: lines of its head besides
    {"do": "stream", "chunks", "gated"?, "pace_s"?}     server-sent events; gated: one a `go`
    {"do": "stream", "frames", "gated"?, "pace_s"?}     the same of these texts, and no others
    {"do": "vectors", "delay_s"?, "numbers"?}           of every input: its length, then `numbers`
    {"do": "scores", "delay_s"?}                        of every document: its length
                                                        `longest`: if one is more, `status` or 400,
                                                        and `says`
    {"do": "tokens", "delay_s"?, "die_at"?}             tokens, a letter each, as the path has it:
                                                        `/apply-template` and `/tokenize`; `die_at`:
                                                        the path whose request ends the process
    {"do": "flood", "bytes", "block"?}                  chunks as fast as they are taken
    {"do": "hang"}                                      never a byte
    {"do": "raw", "pieces": [...], "gated"?, "end"?}    bytes as they stand, no HTTP added

A raw piece is a text, a byte a character, or `{"text": …, "times": n}`; gated:
one a `go`. `end` of it: "stay" (silent, the default), "next" (on to the next
request), "close", "exit".

`die_after` ends it at that many bytes of the answer: 0 is before the first,
`die` says how: "exit" (the process), "close" (the connection). `leave` closes
the connection after a whole answer without a word of warning, and
`"requests_per_connection": n` closes it at request n + 1, unanswered.

The control socket takes one word a connection: `seen` answers with what came
in, as JSON; `take` forgets the requests besides; `count` answers with numbers
alone, as the others do; `go` lets a gated stream send its next chunk, or a gated
answer go; `now <default>` puts another default in place. Plain asyncio and no
HTTP library, because a library would not let it misbehave.
"""

import asyncio
import base64
import json
import os
import ssl
import sys
from array import array
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Engine:
    def __init__(self, secret: str, default: Json) -> None:
        self.secret = secret
        self.default = default
        self.requests: list[Json] = []
        self.served = 0
        self.connections = 0
        self.open = 0
        self.sent_bytes = 0
        self.abandoned = 0
        self.busy = 0
        self.peak = 0
        """Most requests that it worked on at a time."""
        self.go = asyncio.Semaphore(0)

    def counts(self) -> Json:
        names = ("served", "connections", "open", "sent_bytes", "abandoned", "busy", "peak")
        return {name: getattr(self, name) for name in names}

    def seen(self) -> Json:
        return {**self.counts(), "requests": self.requests}


def items_of(body: Json, fake: Json) -> list[Any]:
    """What a `vectors` or `scores` is asked of."""
    items: list[Any] = body["input"] if fake["do"] == "vectors" else body["documents"]
    return items


def of_inputs(body: Json, fake: Json) -> str:
    """What an engine says of a list, in another order. Its tokens are the letters."""
    items = items_of(body, fake)
    used = sum(len(item) for item in items)
    usage = {"prompt_tokens": used, "total_tokens": used, "prompt_tokens_details": None}
    numbered = list(enumerate(items))[::-1]
    if fake["do"] == "scores":
        results = [{"index": at, "relevance_score": len(item)} for at, item in numbered]
        return json.dumps({"model": "x", "object": "list", "results": results, "usage": usage})
    data = []
    for at, item in numbered:
        numbers = [float(len(item)), *fake.get("numbers", [])]
        vector: object = numbers
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(array("f", numbers).tobytes()).decode()
        data.append({"object": "embedding", "index": at, "embedding": vector, "more": 1})
    return json.dumps({"id": "e", "object": "list", "model": "x", "data": data, "usage": usage})


def tokens_of(path: str, body: Json) -> Json:
    """What llama.cpp and vLLM, whose requests differ, say of a text or a chat."""
    spoken = "".join(f"<{each['role']}>{each['content']}" for each in body.get("messages", []))
    if path == "/apply-template":
        return {"prompt": spoken}
    text: str = body.get("content") or body.get("prompt") or spoken
    tokens = [ord(letter) for letter in text]
    if "content" not in body:
        names = [*text] if body["return_token_strs"] else None
        return {"count": len(tokens), "max_model_len": 99, "tokens": tokens, "token_strs": names}
    if body["add_special"]:
        tokens.insert(0, 1)
    if body["with_pieces"]:
        pieces = [{"id": token, "piece": chr(token)} for token in tokens]
        return {"tokens": pieces}
    return {"tokens": tokens}


class Gone(Exception):
    """The other side hung up, or this one was told to."""


class Connection(asyncio.Protocol):
    """One accepted connection. End of input closes it, as an engine's would be."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.number = 0
        self.served = 0
        self.buffer = bytearray()
        self.arrived = asyncio.Event()
        self.writable = asyncio.Event()
        self.answering = False
        self.left = -1
        self.die = "close"
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.writable.set()
        self.engine.connections += 1
        self.engine.open += 1
        self.number = self.engine.connections
        self.task = asyncio.ensure_future(self.serve())

    def connection_lost(self, exc: Exception | None) -> None:
        self.engine.open -= 1
        self.engine.abandoned += self.answering
        self.transport = None
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.arrived.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def serve(self) -> None:
        try:
            while True:
                head, body = await self.request()
                fake = self.orders(body)
                if self.served >= fake.get("requests_per_connection", self.served + 1):
                    raise Gone
                self.served += 1
                self.engine.served += 1
                self.engine.requests.append(
                    {
                        "connection": self.number,
                        "head": head.decode("latin-1"),
                        "body": body.decode("latin-1"),
                    }
                )
                self.answering = True
                self.engine.busy += 1
                self.engine.peak = max(self.engine.peak, self.engine.busy)
                try:
                    await self.answer(fake, head, body)
                finally:
                    self.engine.busy -= 1
                self.answering = False
                if fake.get("leave"):
                    raise Gone
        except Gone:
            if self.transport is not None and not self.transport.is_closing():
                self.answering = False
                self.transport.close()

    async def request(self) -> tuple[bytes, bytes]:
        while b"\r\n\r\n" not in self.buffer:
            await self.more()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(rest) < length:
            await self.more()
            rest = bytes(self.buffer).partition(b"\r\n\r\n")[2]
        self.buffer = bytearray(rest[length:])
        return head, rest[:length]

    async def more(self) -> None:
        self.arrived.clear()
        await self.arrived.wait()

    def orders(self, body: bytes) -> Json:
        try:
            fake = json.loads(body).get("fake")
        except (ValueError, AttributeError):
            fake = None
        return {**self.engine.default, **(fake or {})}

    async def answer(self, fake: Json, head: bytes, body: bytes) -> None:
        self.left = fake.get("die_after", -1)
        self.die = fake.get("die", "close")
        if self.left == 0:
            self.end()
        if f"authorization: Bearer {self.engine.secret}".encode() not in head.split(b"\r\n"):
            await self.whole(401, '{"error": "wrong secret"}')
        elif fake.get("do") == "hang":
            await asyncio.Event().wait()
        elif fake.get("do") == "stream":
            await self.stream(fake)
        elif fake.get("do") in ("vectors", "scores"):
            await asyncio.sleep(fake.get("delay_s", 0))
            items = items_of(json.loads(body), fake)
            if any(len(item) > fake.get("longest", len(item)) for item in items):
                said = {"error": {"message": fake.get("says", "an item is too long")}}
                await self.whole(fake.get("status", 400), json.dumps(said))
            else:
                await self.whole(200, of_inputs(json.loads(body), fake))
        elif fake.get("do") == "tokens":
            path = head.split(b" ")[1].decode()
            if path == fake.get("die_at"):
                os._exit(1)
            await asyncio.sleep(fake.get("delay_s", 0))
            await self.whole(200, json.dumps(tokens_of(path, json.loads(body))))
        elif fake.get("do") == "flood":
            await self.flood(fake)
        elif fake.get("do") == "raw":
            await self.raw(fake)
        else:
            if fake.get("gated"):
                await self.engine.go.acquire()
            await asyncio.sleep(fake.get("delay_s", 0))
            text = fake.get("text", '{"object": "chat.completion", "choices": []}')
            await self.whole(fake.get("status", 200), text, fake.get("headers", ""))

    async def whole(self, status: int, text: str, headers: str = "") -> None:
        data = text.encode()
        head = (
            f"HTTP/1.1 {status} So\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\nserver: fake\r\nset-cookie: a=b\r\n{headers}\r\n"
        ).encode()
        # One write: an engine's short answer arrives in one piece.
        if 0 <= self.left <= len(data):
            await self.send(head + data[: self.left])
            self.end()
        await self.send(head + data)

    async def chunked(self, content_type: str) -> None:
        head = f"content-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        await self.send(b"HTTP/1.1 200 OK\r\n" + head.encode())

    async def stream(self, fake: Json) -> None:
        await self.chunked("text/event-stream")
        frames = fake.get("frames")
        if frames is None:
            frames = [f'data: {{"number": {number}}}\n\n' for number in range(fake["chunks"])]
        for frame in frames:
            if fake.get("gated"):
                await self.engine.go.acquire()
            await asyncio.sleep(fake.get("pace_s", 0))
            await self.chunk(frame.encode())
        if "frames" not in fake:
            await self.chunk(b"data: [DONE]\n\n")
        await self.send(b"0\r\n\r\n")

    async def flood(self, fake: Json) -> None:
        await self.chunked("text/event-stream")
        block = b"x" * fake.get("block", 65536)
        for _ in range(fake["bytes"] // len(block)):
            await self.chunk(block)
        await self.send(b"0\r\n\r\n")

    async def raw(self, fake: Json) -> None:
        for piece in fake["pieces"]:
            if fake.get("gated"):
                await self.engine.go.acquire()
            text, times = (piece, 1) if isinstance(piece, str) else (piece["text"], piece["times"])
            data = text.encode("latin-1")
            for _ in range(times):
                await self.send(data)
        self.die = fake.get("end", "stay")
        if self.die == "stay":
            await asyncio.Event().wait()
        if self.die != "next":
            self.end()

    async def chunk(self, data: bytes) -> None:
        if 0 <= self.left < len(data):
            # Whole chunks only: the cut falls into the text, not into its framing.
            part = data[: self.left]
            await self.send(b"%x\r\n%b\r\n" % (len(part), part))
            self.end()
        self.left -= len(data) if self.left > 0 else 0
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))
        if self.left == 0:
            self.end()

    async def send(self, data: bytes) -> None:
        # A loss is noticed between two turns of the loop.
        await asyncio.sleep(0)
        if self.transport is None or self.transport.is_closing():
            raise Gone
        self.transport.write(data)
        self.engine.sent_bytes += len(data)
        await self.writable.wait()

    def end(self) -> None:
        if self.die == "exit":
            os._exit(1)
        raise Gone


async def main(address: str, control: str, secret: str, default: str = "{}", pem: str = "") -> None:
    engine = Engine(secret, json.loads(default))

    async def command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word, _, rest = (await reader.readline()).strip().partition(b" ")
        if word == b"go":
            engine.go.release()
        elif word == b"now":
            engine.default = json.loads(rest)
        told = engine.seen() if word in (b"seen", b"take") else engine.counts()
        writer.write(json.dumps(told).encode() + b"\n")
        if word == b"take":
            engine.requests.clear()
        await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    tls = None
    if pem:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)
    kind, _, rest = address.partition(":")
    if kind == "unix":
        Path(rest).unlink(missing_ok=True)
        await loop.create_unix_server(lambda: Connection(engine), rest)
    else:
        host, _, port = rest.rpartition(":")
        server = await loop.create_server(lambda: Connection(engine), host, int(port), ssl=tls)
        address = f"tcp:{host}:{server.sockets[0].getsockname()[1]}"
    await asyncio.start_unix_server(command, control, limit=2**24)
    sys.stdout.write(address + "\n")
    sys.stdout.flush()
    # Ends with its parent's end of the pipe, however that comes about.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
