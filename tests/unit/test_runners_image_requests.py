"""What an image request may ask for, in JSON and in forms, and what each refusal says."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.runners.image_bounds import Bounds, Sides, sides_of
from modelry.runners.image_requests import (
    SEED_MAX,
    ImageRequest,
    Task,
    read_request,
    size_of_edit,
)
from modelry.runners.refusals import Refused

BOUNDS = Bounds(Sides(8, 512, 64, 2048), steps=50, guidance=None, strength=0.75)


def read(task: Task = "generate", bounds: Bounds = BOUNDS, **fields: Any) -> ImageRequest:
    return read_request({"prompt": "a cat", **fields}, task, bounds)


def refused(task: Task = "generate", bounds: Bounds = BOUNDS, **fields: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read(task, bounds, **fields)
    assert caught.value.status == 400
    return caught.value


def test_a_prompt_is_enough() -> None:
    request = read()
    assert (request.prompt, request.count, request.size) == ("a cat", 1, (512, 512))
    assert (request.steps, request.guidance, request.seed) == (50, None, None)
    assert (request.format, request.stream, request.partial) == ("png", False, 0)


def test_a_form_says_the_same_as_json() -> None:
    typed: dict[str, Any] = {
        "n": 3, "size": "640x512", "seed": 7, "num_inference_steps": 20, "guidance_scale": 7.5,
        "output_format": "jpeg", "output_compression": 80, "stream": True, "partial_images": 2,
        "strength": 0.5,
    }  # fmt: skip
    texts: dict[str, Any] = {name: str(value).lower() for name, value in typed.items()}
    assert read("edit", **typed) == read("edit", **texts)
    assert read("edit", **typed).guidance == 7.5


def test_what_is_null_or_empty_was_not_said() -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("n", "size", "seed", "num_inference_steps", "guidance_scale")
    )
    assert read(**nothing, stream=None, output_format=None) == read()
    assert read(n="", seed="", guidance_scale="", stream="", output_format="") == read()


def test_fields_that_no_pipeline_can_follow_change_nothing() -> None:
    assert (
        read(quality="hd", style="vivid", user="me", moderation="low", made_up={"a": 1}) == read()
    )


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": None}, "prompt", "must say"),
        ({"prompt": "  "}, "prompt", "must say"),
        ({"prompt": ["a cat"]}, "prompt", "text"),
        ({"prompt": "x" * 32_001}, "prompt", "32000"),
        ({"prompt": "\ud83d"}, "prompt", "Unicode"),
        ({"n": 0}, "n", "1 to 10"),
        ({"n": 11}, "n", "1 to 10"),
        ({"n": True}, "n", "1 to 10"),
        ({"n": "many"}, "n", "1 to 10"),
        ({"n": 1.5}, "n", "1 to 10"),
        ({"size": "large"}, "size", "WIDTHxHEIGHT"),
        ({"size": 512}, "size", "text"),
        ({"size": "512x513"}, "size", "multiples of 8, from 64 to 2048"),
        ({"size": "512x2056"}, "size", "multiples of 8, from 64 to 2048"),
        ({"size": "0x0"}, "size", "multiples of 8, from 64 to 2048"),
        ({"size": "99999x99999"}, "size", "multiples of 8, from 64 to 2048"),
        ({"size": "512x512 "}, "size", "WIDTHxHEIGHT"),
        ({"seed": -1}, "seed", "0 to"),
        ({"seed": SEED_MAX + 1}, "seed", "0 to"),
        ({"seed": "-1"}, "seed", "0 to"),
        ({"num_inference_steps": 151}, "num_inference_steps", "1 to 150"),
        ({"num_inference_steps": 0}, "num_inference_steps", "1 to 150"),
        ({"guidance_scale": 51}, "guidance_scale", "0 to 50"),
        ({"guidance_scale": -0.1}, "guidance_scale", "0 to 50"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "0 to 50"),
        ({"guidance_scale": float("inf")}, "guidance_scale", "0 to 50"),
        ({"guidance_scale": "."}, "guidance_scale", "0 to 50"),
        ({"guidance_scale": True}, "guidance_scale", "0 to 50"),
        ({"output_format": "gif"}, "output_format", "png, jpeg, webp"),
        ({"output_compression": 101}, "output_compression", "0 to 100"),
        ({"background": "transparent"}, "background", "transparent"),
        ({"response_format": "file"}, "response_format", "url, b64_json"),
        ({"stream": "maybe"}, "stream", "true or false"),
        ({"stream": True, "partial_images": 4}, "partial_images", "0 to 3"),
        ({"strength": 0.5}, "strength", "edits"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(
    fields: dict[str, Any], param: str, words: str
) -> None:
    refusal = refused(**fields)
    assert refusal.param == param
    assert words in refusal.message


def test_a_strength_that_leaves_no_step_is_refused() -> None:
    assert refused("edit", strength=0.01, num_inference_steps=50).param == "strength"
    assert read("edit", strength=0.02, num_inference_steps=50).strength == 0.02
    assert read("edit").strength == 0.75


def test_what_a_model_cannot_do_is_said() -> None:
    assert "/v1/images/edits" in refused(bounds=replace(BOUNDS, generates=False)).message
    assert refused("edit", replace(BOUNDS, edits=False)).param == "image"
    assert refused("inpaint", replace(BOUNDS, masks=False)).param == "mask"
    plain = replace(BOUNDS, negative_prompts=False, strength=None)
    assert refused(bounds=plain, negative_prompt="dogs").param == "negative_prompt"
    assert refused("edit", plain, strength=0.5).param == "strength"
    assert read("edit", plain).strength is None


def test_partial_images_are_for_streams() -> None:
    assert read(partial_images=3).partial == 0
    assert read(partial_images=3, stream=True).partial == 3


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((512, 512), (512, 512)),
        ((515, 509), (512, 512)),
        ((4096, 2048), (2048, 1024)),
        ((32, 48), (64, 96)),
        ((4000, 3000), (2048, 1536)),
    ],
)
def test_an_edit_is_as_large_as_its_picture_as_near_as_can_be(
    picture: tuple[int, int], size: tuple[int, int]
) -> None:
    assert size_of_edit(read("edit"), picture, BOUNDS) == size


def test_an_edit_may_have_a_size_of_its_own() -> None:
    assert size_of_edit(read("edit", size="128x256"), (999, 999), BOUNDS) == (128, 256)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_an_edit_is_never_of_a_size_that_could_not_be_asked_for(width: int, height: int) -> None:
    if max(width, height) / min(width, height) > 2048 / 64 * 0.9:
        # Perhaps nothing that long and narrow can be made.
        with suppress(Refused):
            size_of_edit(read("edit"), (width, height), BOUNDS)
        return
    made = size_of_edit(read("edit"), (width, height), BOUNDS)
    assert read("edit", size=f"{made[0]}x{made[1]}").size == made


@pytest.mark.parametrize(
    ("factor", "own", "asked", "most"),
    [
        (2, 64, None, 128),
        (8, 512, None, 1024),
        (8, 768, None, 1536),
        (16, 1024, None, 2048),
        # It does not say.
        (16, None, None, 2048),
        # It was trained for more.
        (8, 4096, None, 4096),
        (8, 64, 640, 640),
        (8, 512, 8192, 8192),
        (8, 512, 999, 992),
        # No less than its own.
        (8, 512, 64, 512),
        (16, 500, None, 992),
    ],
)
def test_how_large_pictures_may_be_follows_from_the_model_unless_its_owner_says(
    factor: int, own: int | None, asked: int | None, most: int
) -> None:
    sides = sides_of(factor, own, asked)
    assert sides.most == most
    assert sides.least <= sides.own <= sides.most
    assert all(side % factor == 0 for side in (sides.own, sides.least, sides.most))


def bounds_for(own: int, asked: int | None = None, steps: int = 50) -> Bounds:
    return Bounds(sides_of(8, own, asked), steps=steps, guidance=None)


def test_a_request_for_too_much_work_is_refused_with_what_would_not_be() -> None:
    bounds = bounds_for(1024)
    asked: dict[str, Any] = {"size": "2048x2048", "num_inference_steps": 50}
    assert read(bounds=bounds, n=3, **asked).count == 3
    refusal = refused(bounds=bounds, n=4, **asked)
    assert refusal.param == "n"
    assert "4 pictures of 2048x2048 in 50 steps" in refusal.message
    assert "150 steps in all, which is 3 of them" in refusal.message
    assert read(bounds=bounds, n=4, **{**asked, "num_inference_steps": 37}).count == 4
    assert read(bounds=bounds, n=4, **{**asked, "size": "1024x1024"}).count == 4


def test_an_edit_of_as_much_work_is_refused_too() -> None:
    bounds = bounds_for(1024)
    for request in (read("edit", bounds, n=4), read("edit", bounds, n=4, size="64x64")):
        assert size_of_edit(request, (64, 64), bounds) == (64, 64)
    with pytest.raises(Refused, match="3 of them"):
        size_of_edit(read("edit", bounds, n=4), (3000, 3000), bounds)


@pytest.mark.parametrize("asked", [None, 64, 2048])
@pytest.mark.parametrize("own", [64, 512, 1024, 4096])
def test_ten_pictures_as_the_model_makes_them_and_one_of_any_kind_may_be_asked_for(
    own: int, asked: int | None
) -> None:
    bounds = bounds_for(own, asked)
    assert read(bounds=bounds, n=10).count == 10
    most = f"{bounds.sides.most}x{bounds.sides.most}"
    assert read(bounds=bounds, size=most, num_inference_steps=150).steps == 150


def test_anything_may_come_in_any_field() -> None:
    names = ("prompt", "n", "size", "seed", "num_inference_steps", "guidance_scale", "stream",
             "output_format", "output_compression", "partial_images", "strength",
             "background", "response_format", "negative_prompt")  # fmt: skip
    values: st.SearchStrategy[object] = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([])
    )

    @given(st.dictionaries(st.sampled_from(names), values), st.sampled_from(["generate", "edit"]))
    def check(fields: dict[str, object], task: Task) -> None:
        with suppress(Refused):
            request = read_request(fields, task, BOUNDS)
            assert 1 <= request.count <= 10
            assert 1 <= request.steps <= 150

    check()
