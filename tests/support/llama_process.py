"""A llama.cpp server with adapters, as a program: what an adapter's file must work in.

    with llama(base, [adapter, …]) as server:
        server.answer("What is the code word?")

Run as a program it takes `{"base", "adapters", …}` on standard input, prints its address,
and ends when its input does. Other fields are set on the engine's parameters.
"""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Llama:
    address: str
    pid: int

    def chat(self, question: str, **more: Any) -> dict[str, Any]:
        """The answer's choice, the likeliest word each time."""
        asked = {"messages": [{"role": "user", "content": question}], "temperature": 0}
        answer = self.post("/v1/chat/completions", {**asked, "max_tokens": 16, **more})
        choice: dict[str, Any] = answer["choices"][0]
        return choice

    def answer(self, question: str, **more: Any) -> str:
        return str(self.chat(question, **more)["message"]["content"])

    def post(self, path: str, body: Any) -> Any:
        split = urlsplit(self.address)
        connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            reply = connection.getresponse()
            read = json.loads(reply.read())
        finally:
            connection.close()
        assert reply.status == 200, read
        return read


@contextmanager
def llama(base: Path, adapters: Sequence[Path] = (), **params: Any) -> Iterator[Llama]:
    config = {"base": str(base), "adapters": [str(each) for each in adapters], **params}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.llama_process"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(config) + "\n")
        process.stdin.flush()
        address = process.stdout.readline().strip()
        assert address.startswith("http"), f"llama.cpp did not start: {address}"
        yield Llama(address, process.pid)
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def main() -> None:
    import xllamacpp  # type: ignore[import-untyped]

    config = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = config.pop("base")
    params.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in config.pop("adapters")
    ]
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config.pop("threads", 2)
    params.use_jinja = True
    params.ui = False
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    for name, value in config.items():
        setattr(params, name, value)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        print(str(error).replace("\n", " "), flush=True)
        os._exit(1)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
