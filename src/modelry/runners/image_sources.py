"""Pictures that a request starts from: opened, and brought to the size of what is made.

One request at a time: an open picture takes hundreds of times the memory of its file, and as many
requests as there are slots may bring one.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from modelry.runners.image_bounds import Bounds
from modelry.runners.image_drafts import Picture
from modelry.runners.image_files import flat, mask_of, read_picture
from modelry.runners.image_requests import ImageRequest, size_of_edit
from modelry.runners.refusals import Refused


@dataclass(frozen=True)
class Sources:
    """`pictures` and `mask` are of `size`, width and height."""

    size: tuple[int, int]
    pictures: tuple[Picture, ...]
    mask: Picture | None


class Opener:
    """For several threads."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def open(
        self, request: ImageRequest, images: Sequence[bytes], mask: bytes | None, bounds: Bounds
    ) -> Sources:
        """`images`: at least one. Raises `Refused` that names the field."""
        with self._one:
            return _opened(request, images, mask, bounds)


def _opened(
    request: ImageRequest, images: Sequence[bytes], mask: bytes | None, bounds: Bounds
) -> Sources:
    side = bounds.sides.most
    first = read_picture(images[0], "image", side)
    first_size = first.size
    size = size_of_edit(request, first_size, bounds)
    pictures = [flat(first.picture, size)]
    # Of several, only one at a time is there as it was sent.
    del first
    pictures += [flat(read_picture(data, "image", side).picture, size) for data in images[1:]]
    if mask is None:
        return Sources(size, tuple(pictures), None)
    marks = read_picture(mask, "mask", side)
    if marks.size != first_size:
        (wide, high), (mask_wide, mask_high) = first_size, marks.size
        raise Refused(
            f"'mask' is {mask_wide}x{mask_high} and 'image' {wide}x{high}: they must be of "
            "one size.",
            param="mask",
        )
    return Sources(size, tuple(pictures), mask_of(marks.picture, size))
