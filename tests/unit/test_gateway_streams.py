"""A body on its way: nothing of it is lost before there is a sink, and nothing kept after."""

from modelry.gateway.streams import BodyStream


def test_what_came_before_the_sink_comes_first() -> None:
    stream, poured = BodyStream(6), list[bytes]()
    stream.feed(b"ab")
    stream.feed(b"cd")
    stream.pour(poured.append)
    stream.feed(b"ef")
    assert poured == [b"ab", b"cd", b"ef"]
    assert not stream.ended
    stream.end()
    assert stream.ended


def test_what_nobody_wants_is_not_kept() -> None:
    stream, poured = BodyStream(6), list[bytes]()
    stream.feed(b"ab")
    stream.drop()
    stream.feed(b"cd")
    stream.pour(poured.append)
    assert poured == []
