"""A runner without a model, for tests of what all runners do: `python tiny_runner.py`.

`/hold` works in a thread until a file `go` lies in its folder; `/leave` answers and leaves such a
thread behind; `/folder` makes a passing file and tells where it lies.
"""

import asyncio
import os
import tempfile
import threading
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelry.runners.serving import in_thread, serve, started


def work(_gone: threading.Event) -> None:
    Path("held").touch()
    while not Path("go").exists():
        time.sleep(0.02)


async def hold(request: Request) -> Response:
    await in_thread(request, work)
    return JSONResponse({"held": True})


async def leave(_request: Request) -> Response:
    asyncio.get_running_loop().run_in_executor(None, work, threading.Event())
    return JSONResponse({"left": True})


async def folder(_request: Request) -> Response:
    passing = tempfile.mkdtemp()
    return JSONResponse({"made": passing, "told": os.environ["TMPDIR"]})


if __name__ == "__main__":
    serve(started(), [Route("/hold", hold), Route("/leave", leave), Route("/folder", folder)])
