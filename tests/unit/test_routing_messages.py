"""The codec between control plane and gateways."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.routing.messages import (
    Ack,
    FromControl,
    FromGateway,
    KeyDrop,
    KeyGrant,
    KeyPut,
    KeysUsed,
    ReplicaAddress,
    Route,
    RouteDrop,
    RoutePut,
    Snapshot,
    decode_from_control,
    decode_from_gateway,
    encode,
)

positions = st.integers(0, 2**53)
seconds = st.floats(allow_nan=False, allow_infinity=False)
addresses = st.builds(ReplicaAddress, st.text(), st.text(), st.text(), st.integers(1, 256))
routes = st.builds(
    Route,
    service_id=st.text(),
    access_path=st.text(),
    owner_id=st.text(),
    tasks=st.lists(st.text(), max_size=3).map(tuple),
    state=st.text(),
    message=st.text(),
    created_at=positions,
    replicas=st.lists(addresses, max_size=3).map(tuple),
)
keys = st.builds(
    KeyGrant,
    id=st.text(),
    hash=st.text(),
    owner_id=st.text(),
    services=st.none() | st.lists(st.text(), max_size=3).map(tuple),
    expires_at=st.none() | seconds,
)
from_control = st.one_of(
    st.builds(
        Snapshot,
        positions,
        st.lists(routes, max_size=3).map(tuple),
        st.lists(keys, max_size=3).map(tuple),
    ),
    st.builds(RoutePut, positions, routes),
    st.builds(RouteDrop, positions, st.text()),
    st.builds(KeyPut, positions, keys),
    st.builds(KeyDrop, positions, st.text()),
)
from_gateway = st.one_of(
    st.builds(Ack, positions), st.builds(KeysUsed, st.dictionaries(st.text(), seconds))
)


@given(from_control)
def test_what_the_control_plane_says_arrives_as_it_was(message: FromControl) -> None:
    assert decode_from_control(encode(message)) == message


@given(from_gateway)
def test_what_a_gateway_says_arrives_as_it_was(message: FromGateway) -> None:
    assert decode_from_gateway(encode(message)) == message


@given(from_control | from_gateway)
def test_a_message_is_exactly_one_line(message: FromControl | FromGateway) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}",
        b"[]",
        b"not json",
        b'{"type":"nobody_says_this","seq":1}',
        b'{"type":"route_put","seq":1}',
        b'{"type":"route_drop","seq":"one","service_id":"svc"}',
        b'{"type":"key_drop","seq":1,"key_id":"\xff"}',
        b'{"type":"ack","seq":1}',
    ],
)
def test_a_line_that_is_no_message_of_the_control_plane_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_from_control(line)


def test_a_gateway_cannot_say_what_is_for_the_control_plane_to_say() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_from_gateway(encode(RouteDrop(1, "svc")))


def test_a_route_of_an_earlier_version_is_read() -> None:
    line = (
        b'{"type":"route_put","seq":4,"route":{"service_id":"svc","access_path":"u-0/a",'
        b'"owner_id":"u-0","tasks":["chat"],"state":"running","message":"","created_at":0}}'
    )
    read = decode_from_control(line)
    assert isinstance(read, RoutePut)
    assert (read.route.dialect, read.route.context_tokens) == ("", None)


def test_a_field_of_a_later_version_does_no_harm() -> None:
    line = b'{"type":"route_drop","seq":4,"service_id":"svc","reason":"later"}'
    assert decode_from_control(line) == RouteDrop(4, "svc")
