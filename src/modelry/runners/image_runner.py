"""Serves a pipeline of diffusers: makes pictures from text, and from other pictures."""

import secrets
import threading
from collections.abc import Iterator, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from modelry.runners.image_answers import answer, completed, partial_image
from modelry.runners.image_bodies import Files, read_edit, read_json
from modelry.runners.image_drafts import Draft
from modelry.runners.image_files import encoded
from modelry.runners.image_pipelines import Pipelines, Unusable
from modelry.runners.image_requests import (
    SEED_MAX,
    ImageRequest,
    Task,
    asks_for_stream,
    read_request,
)
from modelry.runners.image_sources import Opener
from modelry.runners.image_work import Finished, Job, Preview, Worker, one_by_one
from modelry.runners.refusals import Refused
from modelry.runners.serving import (
    Feed,
    event,
    frames,
    in_thread,
    serve,
    started,
    units,
    unloadable,
)


class _Asked:
    """A request that was found good, and its job."""

    def __init__(
        self,
        pipelines: Pipelines,
        opener: Opener,
        task: Task,
        fields: Mapping[str, object],
        files: Files,
        gone: threading.Event,
    ) -> None:
        """Raises `Refused`."""
        bounds = pipelines.bounds
        self.request = request = read_request(fields, task, bounds)
        self.tokens = pipelines.prompts.measure(request.prompt, "prompt")
        if request.negative_prompt is not None:
            pipelines.prompts.measure(request.negative_prompt, "negative_prompt")
        sources = None
        if task == "generate":
            assert request.size is not None
            self.size = request.size
        else:
            mask = files["mask"][0] if task == "inpaint" else None
            sources = opener.open(request, files["image"], mask, bounds)
            self.size = sources.size
        seed = secrets.randbelow(2**32) if request.seed is None else request.seed
        drafts = [
            Draft(
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                seed=(seed + number) % (SEED_MAX + 1),
                steps=request.steps,
                guidance=request.guidance,
                strength=request.strength,
                size=self.size,
                pictures=() if sources is None else sources.pictures,
                mask=None if sources is None else sources.mask,
            )
            for number in range(request.count)
        ]
        self.job = Job(task, drafts, gone, request.partial)


class _Server:
    def __init__(self, pipelines: Pipelines, worker: Worker) -> None:
        self._pipelines = pipelines
        self._worker = worker
        self._opener = Opener()

    async def generations(self, request: Request) -> Response:
        return await self._answered(request, "generate", await read_json(request), {})

    async def edits(self, request: Request) -> Response:
        fields, files = await read_edit(request)
        images, masks = files.get("image", []), files.get("mask", [])
        if not images:
            raise Refused("'image' is missing: send the picture to edit.", param="image")
        most = self._pipelines.bounds.pictures_max
        if len(images) > most:
            raise Refused(
                f"{len(images)} pictures were sent, and this model takes {most} at most.",
                param="image",
            )
        if len(masks) > 1:
            raise Refused("One 'mask' at most.", param="mask")
        return await self._answered(request, "inpaint" if masks else "edit", fields, files)

    async def _answered(
        self, request: Request, task: Task, fields: Mapping[str, object], files: Files
    ) -> Response:
        if asks_for_stream(fields):
            return await self._streamed(request, task, fields, files)

        def work(gone: threading.Event) -> tuple[_Asked, list[str]]:
            asked = _Asked(self._pipelines, self._opener, task, fields, files, gone)
            self._worker.submit(asked.job)
            found = {
                part.number: _file(asked.request, part)
                for part in asked.job.results()
                if isinstance(part, Finished)
            }
            return asked, [found[number] for number in sorted(found)]

        asked, pictures = await in_thread(request, work)
        body = answer(asked.request, asked.size, pictures, asked.tokens)
        return JSONResponse(body, headers=_used(asked))

    async def _streamed(
        self, request: Request, task: Task, fields: Mapping[str, object], files: Files
    ) -> Response:
        begun: list[_Asked] = []

        def make(feed: Feed[bytes]) -> None:
            asked = _Asked(self._pipelines, self._opener, task, fields, files, feed.gone)
            begun.append(asked)
            self._worker.submit(asked.job)
            for said in _events(asked):
                feed.put(said)

        feed = Feed(make)
        first = await feed.first(request)
        assert first is not None
        return StreamingResponse(
            frames(feed.rest(), first), media_type="text/event-stream", headers=_used(begun[0])
        )


def _events(asked: _Asked) -> Iterator[bytes]:
    request, size = asked.request, asked.size
    for part in one_by_one(asked.job.results()):
        picture = _file(request, part)
        if isinstance(part, Preview):
            yield event(partial_image(request, size, picture, part.index))
        else:
            yield event(completed(request, size, picture, asked.tokens))


def _file(request: ImageRequest, part: Preview | Finished) -> str:
    return encoded(part.picture, request.format, request.compression)


def _used(asked: _Asked) -> dict[str, str]:
    count, (width, height) = asked.request.count, asked.size
    return units(images=count, pixels=count * width * height)


def main() -> None:
    config = started()
    try:
        pipelines = Pipelines(config)
    except Unusable as problem:
        unloadable(str(problem))
    worker = Worker(pipelines)
    worker.start()
    server = _Server(pipelines, worker)
    serve(
        config,
        [
            Route("/v1/images/generations", server.generations, methods=["POST"]),
            Route("/v1/images/edits", server.edits, methods=["POST"]),
        ],
    )
