"""What every page of a service shows above its tab: the service's head, and the tabs.

A page of a tab extends `service_layout.html`, fills its block `tab`, and gives its template what
`service_context` returns.
"""

from typing import Any
from urllib.parse import quote

from modelry.access.principal import Principal
from modelry.console.site import Site
from modelry.services import store
from modelry.services.showing import shown_service
from modelry.services.states import ServiceState
from modelry.services.views import ServiceView

# A tab's name, and its path below the service's.
TABS = (
    ("overview", ""),
    ("call", "/call"),
    ("playground", "/playground"),
    ("metrics", "/metrics"),
    ("logs", "/logs"),
    ("events", "/events"),
    ("conformance", "/conformance"),
    ("settings", "/settings"),
)
CALLABLE = frozenset({ServiceState.RUNNING, ServiceState.UPDATING, ServiceState.IDLE})
"""States in which calls are answered."""
STARTABLE = frozenset({ServiceState.STOPPED, ServiceState.FAILED, ServiceState.IDLE})
STOPPABLE = frozenset(ServiceState) - {
    ServiceState.STOPPED,
    ServiceState.FAILED,
    ServiceState.DELETING,
}


async def service_context(
    site: Site, principal: Principal, reference: str, tab: str
) -> dict[str, Any]:
    """Of the visitor's service of that name, or any by its id for operators. Raises `NotFound`.

    `service` is the service as the management API shows it, `service_path` where its pages lie;
    `own`: it is the visitor's; `callable`: it answers calls as it is now.
    """
    async with site.db.begin() as session:
        row = await site.lifecycle.get(session, principal, reference)
        view = await shown_service(session, row, site.lifecycle, site.reconciler, site.executor)
    own = row.owner_id == principal.owner_id
    state = ServiceState(row.state)
    return {
        "section": "services",
        "service": view,
        "service_path": service_path(view, own=own),
        "tab": tab,
        # Its playground calls with a key of the visitor's, who may call their own services alone.
        "tabs": [each for each in TABS if own or each[0] != "playground"],
        "own": own,
        "callable": state in CALLABLE,
        "startable": state in STARTABLE,
        "stoppable": state in STOPPABLE,
    }


def service_path(service: ServiceView | store.ServiceRow, *, own: bool) -> str:
    """Where the pages of a service lie: another owner's go by its id, which is nobody else's."""
    return f"/services/{quote(service.name if own else service.id)}"
