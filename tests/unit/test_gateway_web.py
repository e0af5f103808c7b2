"""What the gateway reads from the web for a stranger: where it goes, and how much it takes."""

import asyncio
import contextlib
import encodings.idna
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from modelry.gateway import web as web_module
from modelry.gateway import web_names
from modelry.gateway.web import Crowded, Network, Unfetched, Web
from tests.support.certificates import Authority
from tests.support.picture_server import PictureServer, answer, redirect

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"),)
SIZE_MOST = 1024 * 1024
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer() as made:
        yield made


def get(url: str, networks: tuple[Network, ...] = LOOPBACK) -> tuple[bytes, str]:
    """The file and its Content-Type."""
    taken = bytearray()

    async def story() -> str:
        return await Web(networks, size_most=SIZE_MOST).get(url, taken.extend, "key_1")

    content_type = asyncio.run(story())
    return bytes(taken), content_type


def refusal(url: str, networks: tuple[Network, ...] = LOOPBACK) -> str:
    with pytest.raises(Unfetched) as caught:
        get(url, networks)
    return str(caught.value)


def ignore(data: bytes) -> None:
    """Take a file's bytes."""


def names(monkeypatch: pytest.MonkeyPatch, look_up: Callable[[str], list[str]]) -> None:
    """Have names looked up so. The loop's own resolver is nobody's to use."""
    system = web_names.look_up

    def looked_up(host: str, flags: int = 0) -> list[str]:
        return system(host, flags) if flags else look_up(host)

    async def never(self: object, host: str, *more: object, **options: object) -> object:
        raise AssertionError(f"{host} was looked up in the loop's own threads")

    monkeypatch.setattr(web_names, "look_up", looked_up)
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", never)


# -- what comes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"a picture", "image/PNG; charset=binary"),
        b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\na picture",
        b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\na picture",
        b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n"
        b"4\r\na pi\r\n5\r\ncture\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\ncontent-type: text/html\r\n\r\n" + answer(b"a picture"),
    ],
    ids=["length", "to the end", "1.0", "chunks", "hints first"],
)
def test_a_file_comes_however_it_is_framed(server: PictureServer, raw: bytes) -> None:
    assert get(server.put("/a", raw)) == (b"a picture", "image/png")


def test_trailers_change_nothing_of_a_file(server: PictureServer) -> None:
    """There may be any number of them, so none is kept."""
    trailers = b"content-type: text/html\r\n" + b"x-y: z\r\n" * 1000
    url = server.put("/a", CHUNKED + b"9\r\na picture\r\n0\r\n" + trailers + b"\r\n")
    assert get(url) == (b"a picture", "image/png")


def test_a_large_file_may_come_in_chunks_of_any_usual_size(server: PictureServer) -> None:
    data = bytes(SIZE_MOST)
    chunks = b"".join(b"100\r\n%b\r\n" % data[at : at + 256] for at in range(0, len(data), 256))
    assert get(server.put("/a", CHUNKED + chunks + b"0\r\n\r\n"))[0] == data


def test_the_request_tells_nothing_of_us_and_asks_for_no_coding(server: PictureServer) -> None:
    server.put("/a%20b?q=%2F&c=d", answer(b"x"))
    get(server.url("/a%20b?q=%2F&c=d#part"))
    (head,) = server.requests
    first, *lines = head.strip().split("\r\n")
    assert first == "GET /a%20b?q=%2F&c=d HTTP/1.1"
    names = [line.partition(":")[0] for line in lines]
    assert names == ["host", "accept", "accept-encoding", "user-agent", "connection"]
    assert f"host: 127.0.0.1:{server.port}" in lines
    assert "accept-encoding: identity" in lines


def test_letters_beyond_ascii_are_coded(server: PictureServer) -> None:
    server.put("/bild-%C3%BC?%C3%A4", answer(b"x"))
    assert get(server.url("/bild-ü?ä"))[0] == b"x"


def test_redirects_are_followed_three_times(server: PictureServer) -> None:
    server.put("/3", answer(b"there"))
    for number in range(3):
        server.put(f"/{number}", redirect(f"/{number + 1}"))
    assert get(server.url("/0"))[0] == b"there"
    server.put("/start", redirect("/0"))
    assert "more than 3 times" in refusal(server.url("/start"))


@pytest.mark.parametrize(
    "location", ["/bild-ü", "/bild-%C3%BC", "bild-ü", "//127.0.0.1:{port}/bild-ü"]
)
def test_a_redirect_may_have_letters_beyond_ascii(server: PictureServer, location: str) -> None:
    server.put("/bild-%C3%BC", answer(b"there"))
    place = location.replace("{port}", str(server.port))
    assert get(server.put("/a", redirect(place)))[0] == b"there"


def test_a_redirect_in_latin_1_leads_where_its_bytes_do(server: PictureServer) -> None:
    server.put("/bild-%FC", answer(b"there"))
    raw = redirect("/bild-").replace(b"bild-", b"bild-\xfc")
    assert get(server.put("/a", raw))[0] == b"there"


# -- what does not ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (answer(b"secret", status="404 Not Found"), "answered 404"),
        (answer(b"secret", status="206 Partial Content"), "answered 206"),
        (answer(b"x", "image/png", "content-encoding: gzip"), "compressed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n", "larger than 1 MiB"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(SIZE_MOST + 1), "larger than 1 MiB"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na pi", "did not come whole"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\na pi\r\n",
            "did not come whole",
        ),
        (b"", "did not come whole"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "speaks no HTTP"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x-y: " + b"z" * 1000000, ""),
        (CHUNKED + b"1;" + b"x" * 200_000 + b"\r\na\r\n0\r\n\r\n", "too much beside it"),
        (CHUNKED + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n", "too much beside it"),
        (CHUNKED + b"1\r\na\r\n0\r\n" + b"x: y\r\n" * 50_000 + b"\r\n", "too much beside it"),
        (b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n" * 5000, "too much beside it"),
        (redirect(""), "to nowhere"),
        (redirect("file:///etc/passwd"), "no valid address"),
        (redirect("http://[::1"), "no valid address"),
    ],
)
def test_what_is_no_whole_file_is_told(server: PictureServer, raw: bytes, told: str) -> None:
    said = refusal(server.put("/a", raw))
    assert told in said
    assert "secret" not in said


def test_a_file_that_does_not_come_in_time_is_given_up(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_module, "_TIMEOUT_S", 0.3)
    url = server.put("/a", b"HTTP/1.1 200 OK\r\n\r\nsome", hangs=True)
    assert "did not come within" in refusal(url)
    server.await_waiting(0)
    assert server.gone == 1


# -- where it goes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "１２７.０.０.１",
        "127。0。0。1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:0:0:0:0:80ff:fffe]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
def test_no_notation_leads_inside(server: PictureServer, host: str) -> None:
    server.put("/a", answer(b"inside"))
    said = refusal(f"http://{host}:{server.port}/a", ())
    assert said == "has an address that is not public"
    assert server.requests == []


def test_a_name_with_one_address_inside_is_refused(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, lambda host: ["93.184.215.14", "127.0.0.1"])
    url = server.url("/a", "pictures.example.com")
    assert refusal(url, ()) == "has an address that is not public"
    assert server.requests == []


def test_a_name_is_resolved_once_and_its_address_connected_to(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a name server which answers another address the second time gains nothing."""
    asked: list[str] = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "10.0.0.1"]

    names(monkeypatch, look_up)
    server.put("/a", answer(b"x"))
    assert get(server.url("/a", "pictures.example.com"))[0] == b"x"
    assert asked == ["pictures.example.com"]
    assert f"host: pictures.example.com:{server.port}" in server.requests[0]


def test_a_redirect_is_checked_like_an_address(server: PictureServer) -> None:
    inside = PictureServer()
    with inside:
        inside.put("/a", answer(b"inside"))
        # Only the address that is named first may be read from.
        target = f"http://127.0.0.2:{inside.port}/a"
        said = refusal(server.put("/a", redirect(target)), (ip_network("127.0.0.1/32"),))
        assert said == "has an address that is not public"
        assert inside.requests == []


@pytest.mark.parametrize("network", ["127.0.0.0/8", "127.0.0.1/32"])
def test_an_allowed_network_is_meant_in_every_notation(server: PictureServer, network: str) -> None:
    server.put("/a", answer(b"x"))
    assert get(f"http://2130706433:{server.port}/a", (ip_network(network),))[0] == b"x"
    assert refusal(f"http://[::1]:{server.port}/a", (ip_network(network),))


@pytest.mark.parametrize(
    "url",
    [
        "http://user@127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://93.184.215.14@127.0.0.1/",
        "http:///a",
        "http://",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1:25/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nx-header: y",
        "http://127.0.0.1\\@93.184.215.14/",
        "http://exa mple.com/",
        "http://ex%61mple.com/",
        "http://a..b/x.png",
        "http://.a/",
        "http://./",
        "http://ü..b/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a" * 300 + ".com/",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1/",
        "file:///etc/passwd",
    ],
)
def test_no_plain_address_is_no_address(url: str) -> None:
    assert "address" in refusal(url)


@pytest.mark.parametrize("letter", ["ü", "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"])
def test_a_host_that_is_too_long_is_not_worked_on(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    """Coding one of 8000 letters would stop the gateway for a second."""

    def coded(label: str) -> str:
        raise AssertionError(f"a host of {len(label)} letters was coded")

    monkeypatch.setattr(encodings.idna, "nameprep", coded)
    assert refusal(f"http://{letter * 8000}/") == "has no valid address"
    assert refusal(server.put("/a", redirect(f"//{letter * 8000}/"))) == "has no valid address"


def test_a_redirect_is_no_longer_than_an_address_may_be(server: PictureServer) -> None:
    server.put("/" + "x" * 8192, answer(b"x"))
    said = refusal(server.put("/a", redirect("/" + "x" * 8192)))
    assert said == "is redirected to no valid address"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port of 127.0.0.2 and 127.0.0.3 that lets whoever connects wait."""
    listeners = [socket.socket() for _ in range(2)]
    filling = [socket.socket() for _ in range(8)]
    try:
        listeners[0].bind(("127.0.0.2", 0))
        port = int(listeners[0].getsockname()[1])
        listeners[1].bind(("127.0.0.3", port))
        for at, listener in enumerate(listeners):
            listener.listen(0)
            for each in filling[4 * at : 4 * at + 4]:
                each.setblocking(False)
                each.connect_ex(listener.getsockname())
        yield port
    finally:
        for each in (*listeners, *filling):
            each.close()


def test_a_silent_address_leaves_time_for_the_next(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a host with IPv6, where that leads nowhere."""
    monkeypatch.setattr(web_module, "_CONNECT_TIMEOUT_S", 2.0)
    names(monkeypatch, lambda host: ["127.0.0.2", "127.0.0.3", "127.0.0.1"])
    with PictureServer(port=silent) as server:
        assert get(server.put("/a", answer(b"x")).replace("127.0.0.1", "b.example"))[0] == b"x"


@pytest.mark.parametrize(
    ("told", "tried"),
    [
        (["a", "b"], ["a", "b"]),
        (["::1", "::2", "a", "b"], ["::1", "a", "b", "::2"]),
        (["a", "::1", "b"], ["a", "::1", "b"]),
        ([], []),
    ],
)
def test_another_family_is_tried_next(told: list[str], tried: list[str]) -> None:
    assert web_module._in_turn(told) == tried


# -- who may, at once ------------------------------------------------------------------


def test_slow_names_of_one_key_hold_up_nobody_else(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their lookups go on when nobody waits for them any more, and count as that key's."""
    monkeypatch.setattr(web_module, "_CONNECT_TIMEOUT_S", 1.0)
    answers = threading.Event()
    asked: list[str] = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        if host.startswith("slow"):
            answers.wait(30)
        return ["127.0.0.1"]

    names(monkeypatch, look_up)
    server.put("/a", answer(b"x"))

    async def story() -> None:
        web = Web(LOOPBACK, size_most=SIZE_MOST)
        slow = [server.url("/a", f"slow-{number}") for number in range(8)]
        fetches = [web.get(url, ignore, "key_1") for url in slow]
        ends = await asyncio.gather(*fetches, return_exceptions=True)
        assert {str(end) for end in ends} == {"cannot be reached: its server does not answer"}
        assert len(asked) == 4
        with pytest.raises(Unfetched):
            await web.get(server.url("/a", "quick"), ignore, "key_1")
        assert await web.get(server.url("/a", "quick"), ignore, "key_2") == "image/png"
        answers.set()
        # The places are free again once the lookups have ended.
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(Unfetched):
                    await web.get(server.url("/a", "quick"), ignore, "key_1")
                    return

    try:
        asyncio.run(story())
    finally:
        answers.set()


def test_a_key_has_its_share_and_leaves_the_others_theirs(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_module, "_PLACE_WAIT_S", 0.2)
    slow = server.put("/slow", b"HTTP/1.1 200 OK\r\n\r\nsome", hangs=True)
    quick = server.put("/a", answer(b"x"))

    async def story() -> None:
        web = Web(LOOPBACK, size_most=SIZE_MOST)
        held = [asyncio.create_task(web.get(slow, ignore, "key_1")) for _ in range(8)]
        await asyncio.to_thread(server.await_waiting, 8)
        with pytest.raises(Crowded):
            await web.get(quick, ignore, "key_1")
        assert await web.get(quick, ignore, "key_2") == "image/png"
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        assert await web.get(quick, ignore, "key_1") == "image/png"

    asyncio.run(story())


def test_the_time_of_a_file_begins_with_its_place(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float | None] = []
    timeout = asyncio.timeout

    def recorded(delay: float | None) -> asyncio.Timeout:
        begun.append(delay)
        return timeout(delay)

    monkeypatch.setattr(asyncio, "timeout", recorded)
    slow = server.put("/slow", b"HTTP/1.1 200 OK\r\n\r\nsome", hangs=True)
    quick = server.put("/a", answer(b"x"))

    async def story() -> None:
        web = Web(LOOPBACK, size_most=SIZE_MOST)
        held = [asyncio.create_task(web.get(slow, ignore, "key_1")) for _ in range(8)]
        await asyncio.to_thread(server.await_waiting, 8)
        last = asyncio.create_task(web.get(quick, ignore, "key_1"))
        await asyncio.sleep(0)
        assert begun[-1] == web_module._PLACE_WAIT_S
        assert begun.count(web_module._TIMEOUT_S) == 8
        held[0].cancel()
        assert await last == "image/png"
        assert begun.count(web_module._TIMEOUT_S) == 9
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(story())


# -- TLS -------------------------------------------------------------------------------


def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pem, _ = authority.issue("127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(authority.file))
    with PictureServer(pem) as server:
        url = server.put("/a", answer(b"x"))
        assert "no valid certificate" in refusal(url)
        assert server.requests == []
        monkeypatch.setattr(web_module, "_tls", lambda: trusting)
        assert get(url)[0] == b"x"
        # By its name, and not by whom it was issued.
        assert "no valid certificate" in refusal(server.url("/a", "localhost"))


def test_a_redirect_does_not_lead_out_of_tls(
    tmp_path: Path, server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pem, _ = authority.issue("127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(authority.file))
    monkeypatch.setattr(web_module, "_tls", lambda: trusting)
    with PictureServer(pem) as secure:
        url = secure.put("/a", redirect(server.put("/a", answer(b"x"))))
        assert "without TLS" in refusal(url)
    assert server.requests == []
