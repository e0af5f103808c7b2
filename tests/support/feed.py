"""A look at what gateways are told: the feed of a running instance."""

import socket

from modelry.routing.messages import KeyGrant, Route, Snapshot, decode_from_control
from tests.support.instance import Instance


def snapshot(instance: Instance) -> Snapshot:
    """What a gateway that connects now is told first."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(instance.paths.feed_socket))
        with connection.makefile("rb") as lines:
            message = decode_from_control(lines.readline())
    assert isinstance(message, Snapshot)
    return message


def route(instance: Instance, service_id: str) -> Route:
    (found,) = [each for each in snapshot(instance).routes if each.service_id == service_id]
    return found


def grant(instance: Instance, key_id: str) -> KeyGrant:
    (found,) = [each for each in snapshot(instance).keys if each.id == key_id]
    return found
