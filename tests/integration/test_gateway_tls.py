"""The gateway's own port over TLS."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.support.certificates import Authority
from tests.support.control_stand_in import ControlStandIn
from tests.support.data_plane import GatewayProcess, Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import post

CHAT = "/v1/chat/completions"
MB = 1_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.close()


@pytest.fixture(scope="module")
def secure(plane: Plane, authority: Authority) -> GatewayProcess:
    certificate, key = authority.issue("127.0.0.1", "localhost")
    return plane.another_gateway(tls_cert=str(certificate), tls_key=str(key))


def client(gateway: GatewayProcess, key: str, trust: ssl.SSLContext) -> httpx2.Client:
    return httpx2.Client(
        base_url=f"https://127.0.0.1:{gateway.port}",
        headers={"authorization": f"Bearer {key}"},
        verify=trust,
        timeout=15,
        trust_env=False,
    )


def test_answers_streams_and_large_bodies_come_through(
    plane: Plane, secure: GatewayProcess, trust: ssl.SSLContext
) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    large = chat(path) | {"padding": "y" * 3 * MB}
    with client(secure, plane.owner_key, trust) as http:
        assert http.post(CHAT, json=large).json()["object"] == "chat.completion"
        assert http.get("/healthz").json() == {"status": "ok"}
        flood = http.post(CHAT, json=chat(path, do="flood", bytes=8 * MB, block=50_000))
        assert flood.content == b"x" * 8 * MB
        # The head comes with the first event.
        replica.go()
        with http.stream("POST", CHAT, json=chat(path, do="stream", chunks=3, gated=True)) as one:
            # Answered while the stream waits: it holds nobody up.
            assert http.get("/healthz").status_code == 200
            replica.go()
            replica.go()
            assert one.read().endswith(b"data: [DONE]\n\n")
    assert json.loads(replica.requests[0]["body"]) == large


def test_the_official_client_calls_over_tls(
    plane: Plane, secure: GatewayProcess, trust: ssl.SSLContext
) -> None:
    path = plane.service(plane.replica())
    messages: Any = [{"role": "user", "content": "hi"}]
    with openai.OpenAI(
        base_url=f"https://127.0.0.1:{secure.port}/v1",
        api_key=plane.owner_key,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=trust, trust_env=False),
    ) as made:
        answer = made.chat.completions.create(model=path, messages=messages)
        assert answer.object == "chat.completion"
        with pytest.raises(openai.NotFoundError):
            made.chat.completions.create(model="missing", messages=messages)


def test_a_caller_who_hangs_up_ends_the_replica_s_work(
    plane: Plane, secure: GatewayProcess, trust: ssl.SSLContext
) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    with (
        socket.create_connection(("127.0.0.1", secure.port)) as connection,
        trust.wrap_socket(connection, server_hostname="127.0.0.1") as wire,
    ):
        wire.sendall(post(CHAT, plane.owner_key, chat(path, do="hang")))
        wait_for(lambda: replica.seen()["busy"], "the request to arrive")
    wait_for(lambda: replica.seen()["abandoned"] == 1, "the replica to be hung up on", 5)


def test_a_refusal_is_read_whole_before_the_connection_ends(
    plane: Plane, secure: GatewayProcess, trust: ssl.SSLContext
) -> None:
    with client(secure, "sk-wrong", trust) as http:
        answer = http.post(CHAT, content=b"x" * 2 * MB)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_who_speaks_no_tls_or_an_old_one_gets_no_answer_and_harms_nobody(
    plane: Plane, secure: GatewayProcess, trust: ssl.SSLContext
) -> None:
    for sent in (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01" + b"\0" * 300):
        with socket.create_connection(("127.0.0.1", secure.port), timeout=5) as connection:
            connection.sendall(sent)
            heard = b""
            try:
                while data := connection.recv(4096):
                    heard += data
            except ConnectionResetError:
                pass
            assert b"HTTP/1.1 200" not in heard
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", secure.port), timeout=5) as connection,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(connection)
    with client(secure, plane.owner_key, trust) as http:
        assert http.get("/healthz").status_code == 200


def test_the_control_plane_hears_that_it_was_https(
    plane: Plane, secure: GatewayProcess, trust: ssl.SSLContext
) -> None:
    control = ControlStandIn(plane.paths.control_socket)
    try:
        with client(secure, "pat-token", trust) as http:
            assert http.get("/page").status_code == 200
    finally:
        control.close()
    (seen,) = control.seen
    assert seen.values("x-forwarded-proto") == ["https"]
    assert seen.values("x-forwarded-for") == ["127.0.0.1"]


def test_certificate_and_key_may_be_one_file(
    plane: Plane, authority: Authority, trust: ssl.SSLContext
) -> None:
    certificate, _ = authority.issue("127.0.0.1")
    gateway = plane.another_gateway(tls_cert=str(certificate))
    with client(gateway, plane.owner_key, trust) as http:
        assert http.get("/v1/models").status_code == 200


@pytest.mark.parametrize("wrong", ["missing", "no-certificate", "another-s-key"])
def test_a_certificate_that_cannot_be_used_is_named_at_the_start(
    plane: Plane, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    certificate, _ = authority.issue("127.0.0.1")
    _, key = authority.issue("127.0.0.1")
    given = {
        "missing": {"tls_cert": str(tmp_path / "none.pem")},
        "no-certificate": {"tls_cert": str(key)},
        "another-s-key": {"tls_cert": str(certificate), "tls_key": str(key)},
    }[wrong]
    with pytest.raises(AssertionError, match=r"TLS certificate .* cannot be used"):
        GatewayProcess(plane.paths.data, **given)


def test_at_its_end_a_stream_over_tls_finishes(
    plane: Plane, authority: Authority, trust: ssl.SSLContext
) -> None:
    certificate, key = authority.issue("127.0.0.1")
    gateway = plane.another_gateway(tls_cert=str(certificate), tls_key=str(key))
    replica = plane.replica()
    path = plane.service(replica)
    replica.go()
    with (
        client(gateway, plane.owner_key, trust) as http,
        http.stream("POST", CHAT, json=chat(path, do="stream", chunks=2, gated=True)) as one,
    ):
        gateway.terminate()
        replica.go()
        assert one.read().endswith(b"data: [DONE]\n\n")
    assert gateway.wait(5) == 0
