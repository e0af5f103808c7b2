"""The design system, for who builds pages: every token and component, live, and how it is used."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from modelry.console.coloured import coloured
from modelry.console.frame import Frame, Visitor
from modelry.console.site import Site
from modelry.console.tokens import colours, contrasts, tokens

_SCALES = ("space", "radius")
_SIZES = ("small", "normal", "large", "title")
_PROGRAM = """\
# Comments, names, texts and numbers have colours of their own.
from openai import OpenAI

print(OpenAI().models.list(timeout=3.5))
"""


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]

    @routes.get("/design")
    async def design_page(request: Request, visitor: Looking) -> Response:
        visitor.principal.require_operator("the design system")
        known, named = tokens(), colours()
        scales = {
            scale: {name: value for name, value in known.items() if name.startswith(scale)}
            for scale in _SCALES
        }
        sizes = {name: known[name] for name in _SIZES}
        drawn = named.keys() | sizes.keys() | {each for scale in scales.values() for each in scale}
        return frame.page(
            request,
            "design.html",
            visitor,
            script_words=("charts_js", "design_js"),
            section="profile",
            colours=named,
            contrasts=contrasts(),
            scales=scales,
            sizes=sizes,
            others={name: value for name, value in known.items() if name not in drawn},
            program=_PROGRAM,
            coloured=coloured,
            source=str,
        )

    return routes
