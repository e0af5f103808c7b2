"""How a service is called: with which key, from which programs, and what is answered."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from modelry.console.call_parameters import PARAMETERS, Parameter
from modelry.console.coloured import coloured
from modelry.console.frame import Frame, Visitor
from modelry.console.service_context import service_context
from modelry.console.site import Site
from modelry.services.example_answers import Answer, example_answer
from modelry.services.examples import KEY_VARIABLE, Example, examples
from modelry.services.examples_libraries import LibraryExample, library_examples
from modelry.services.spec import ServiceSpec
from modelry.services.views import ServiceView


@dataclass(frozen=True)
class _Program:
    """`tab`: the language or library; `language`: what it is written in."""

    tab: str
    language: str
    streaming: bool
    install: str | None
    code: str
    answer: Answer


@dataclass
class _Call:
    """What a service does, of which there are programs."""

    path: str
    programs: list[_Program] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As texts and addresses within the page have it."""
        return self.path.replace("/", "_")

    @property
    def tabs(self) -> list[str]:
        return list(dict.fromkeys(each.tab for each in self.programs))

    @property
    def streams(self) -> bool:
        return any(each.streaming for each in self.programs)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return PARAMETERS[self.path]


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()

    @routes.get("/services/{name}/call")
    async def call(
        request: Request, visitor: Annotated[Visitor, Depends(frame.visitor)], name: str
    ) -> Response:
        context = await service_context(site, visitor.principal, name, "call")
        base_url = f"{site.public_base(request)}/v1"
        return frame.page(
            request,
            "service_call.html",
            visitor,
            base_url=base_url,
            calls=list(_calls(context["service"], base_url)),
            key_variable=KEY_VARIABLE,
            coloured=coloured,
            usual=_usual(context["service"]),
            **context,
        )

    return routes


def _calls(service: ServiceView, base_url: str) -> Iterator[_Call]:
    calls: dict[str, _Call] = {}
    for each in examples(base_url, service.access_path, tuple(service.tasks)):
        call = calls.setdefault(each.path, _Call(each.path))
        call.programs.append(_of_language(each, base_url, service.access_path))
    if "chat" in service.tasks:
        for library in library_examples(base_url, service.access_path):
            program = _of_library(library, base_url, service.access_path)
            calls["chat/completions"].programs.append(program)
    yield from calls.values()


def _of_language(example: Example, base_url: str, access_path: str) -> _Program:
    # OpenAI's libraries take speech as it is spoken, without events.
    events = example.streaming and not (
        example.path == "audio/speech" and example.language != "curl"
    )
    return _Program(
        tab=example.language,
        language=example.language,
        streaming=example.streaming,
        install=example.install,
        code=example.code,
        answer=example_answer(
            example.path, streaming=events, base_url=base_url, access_path=access_path
        ),
    )


def _of_library(example: LibraryExample, base_url: str, access_path: str) -> _Program:
    return _Program(
        tab=example.library,
        language="python",
        streaming=example.streaming,
        install=example.install,
        code=example.code,
        answer=example_answer(
            example.path, streaming=example.streaming, base_url=base_url, access_path=access_path
        ),
    )


def _usual(service: ServiceView) -> dict[str, float]:
    """What counts of this model where a call says nothing, by the field."""
    if not isinstance(service.spec, ServiceSpec):
        return {}
    said = service.spec.defaults.model_dump(exclude_none=True)
    return {name: value for name, value in said.items() if isinstance(value, int | float)}
