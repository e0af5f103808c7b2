"""Images that a call names by their address: what goes wrong, and who hears of it."""

import asyncio
from typing import Any, cast

import pytest

from modelry.gateway.call import Call
from modelry.gateway.inference import Inference
from modelry.gateway.memory import Memory
from modelry.gateway.picture_fetch import PictureFetch
from modelry.gateway.picture_parts import Image, Pictures
from modelry.gateway.replies import Reply, error
from modelry.gateway.request import Request
from modelry.gateway.service import Service
from modelry.gateway.web import Crowded, Take, Web
from tests.support.pictures import data_url, png


class FakeWeb:
    """Answers every address alike."""

    def __init__(self, file: bytes = b"", problem: Exception | None = None) -> None:
        self.file, self.problem = file, problem

    async def get(self, url: str, take: Take, key_id: str) -> str:
        if self.problem is not None:
            raise self.problem
        take(self.file)
        return "image/png"


def links(count: int) -> list[Image]:
    found = [Image(0, column) for column in range(count)]
    for image in found:
        image.link = "https://example.com/a.png"
    return found


def bring(
    web: FakeWeb, images: list[Image], most_bytes: int = 1 << 20, body_bytes: int = 0
) -> None:
    fetch = PictureFetch(cast(Web, web), most_bytes)
    asyncio.run(fetch.bring(images, lambda size: True, key_id="key_1", body_bytes=body_bytes))


def refusal(web: FakeWeb, images: list[Image], **sizes: int) -> Reply:
    with pytest.raises(Reply) as caught:
        bring(web, images, **sizes)
    return caught.value


def test_an_image_becomes_a_data_url() -> None:
    (image,) = images = links(1)
    bring(FakeWeb(png()), images)
    assert image.media_type == "image/png"
    assert image.url is not None
    assert bytes(image.url).decode() == f'"{data_url(png())}"'


def test_who_gets_no_place_is_asked_to_come_again() -> None:
    reply = refusal(FakeWeb(problem=Crowded()), links(1))
    assert (reply.status, reply.problem and reply.problem[0]) == (503, "overloaded")
    assert b"retry-after: " in reply.lines


def test_all_images_of_a_request_share_the_room_of_a_body() -> None:
    web = FakeWeb(png() + bytes(30_000))
    bring(web, links(2), most_bytes=100_000)
    reply = refusal(web, links(3), most_bytes=100_000)
    assert (reply.status, reply.problem and reply.problem[0]) == (400, "invalid_image_url")
    assert refusal(web, links(2), most_bytes=100_000, body_bytes=50_000).status == 400


class LeftCall:
    """One whose caller has left, and that must not be told anything."""

    key_id = "key_1"
    is_over = False
    preparing: Any = None

    def refused(self, reply: Reply) -> None:
        assert not self.is_over


class Leaving:
    """A fetch whose caller leaves within, and that ends with `problem` all the same."""

    def __init__(self, call: LeftCall, problem: Exception | None) -> None:
        self.call, self.problem = call, problem

    async def bring(self, *arguments: Any, **more: Any) -> None:
        self.call.is_over = True
        if self.problem is not None:
            raise self.problem


@pytest.mark.parametrize("problem", [error(503, "overloaded", "later"), ValueError(), None])
def test_whoever_has_left_hears_nothing_and_takes_no_slot(problem: Exception | None) -> None:
    nothing = cast(Any, None)
    call = LeftCall()
    inference = Inference(
        nothing,
        nothing,
        record=nothing,
        unseal=nothing,
        shapes={},
        translates={},
        responses=nothing,
        answer_timeout_s=1,
        memory=Memory(1),
        pictures=cast(PictureFetch, Leaving(call, problem)),
    )
    request = Request("127.0.0.1", 0.0)
    # No service: whoever entered it would fail.
    preparing = inference._prepare(
        cast(Call, call), Pictures(nothing, [], 0), cast(Service, None), request
    )
    asyncio.run(preparing)
    assert call.is_over
