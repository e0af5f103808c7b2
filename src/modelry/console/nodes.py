"""Nodes: what each has and uses, and which replicas run there."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from modelry.console.frame import Frame, Visitor
from modelry.console.site import Site
from modelry.services.node_endpoints import node_views


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]

    @routes.get("/nodes")
    async def nodes_page(request: Request, visitor: Looking) -> Response:
        nodes = await node_views(site.db, site.executor, site.nodes, visitor.principal)
        return frame.page(
            request,
            "nodes.html",
            visitor,
            section="nodes",
            nodes=nodes,
            replicas=sum(len(node.replicas) for node in nodes),
        )

    return routes
