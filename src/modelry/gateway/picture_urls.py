"""What may stand in a chat as an image's address: one of the web, or the image as a data URL.

Whatever is wrong with an image is a `NotAPicture`, to come after "the image ".
"""

import binascii

import msgspec

from modelry.gateway import pictures
from modelry.gateway.pictures import NotAPicture

_ADDRESS_MAX = 8192
_CODED_MOST = -(-pictures.BYTES_MOST // 3) * 4
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def media_type_of(url: str) -> str | None:
    """That of a data URL with a picture in it; None for an address of the web.

    Raises `NotAPicture` for everything else.
    """
    scheme, _, rest = url[: _ADDRESS_MAX + 1].partition(":")
    match scheme.lower():
        case "http" | "https":
            if len(url) > _ADDRESS_MAX:
                raise NotAPicture(f"has an address over {_ADDRESS_MAX} characters")
            return None
        case "data":
            media, comma, _ = rest[:100].partition(",")
            kind, _, coding = media.lower().partition(";")
            if not comma or coding != "base64" or kind not in pictures.MEDIA_TYPES:
                raise NotAPicture(
                    "needs the form data:image/png;base64,…, and image/jpeg, image/webp or "
                    "image/gif for those"
                )
            media_type = pictures.MEDIA_TYPES[kind]
            _check_data(url[len(scheme) + len(media) + 2 :], media_type)
            return media_type
    raise NotAPicture("needs an address that begins with https:, http: or data:")


def data_url(media_type: str, coded: bytearray) -> msgspec.Raw:
    """As a JSON string. `coded`, the picture in base64, becomes part of it: it may be large."""
    coded[:0] = f'"data:{media_type};base64,'.encode("ascii")
    coded += b'"'
    return msgspec.Raw(coded)


def _check_data(text: str, media_type: str) -> None:
    """Whether it is base64 of such a picture."""
    if len(text) > _CODED_MOST:
        raise NotAPicture(f"is larger than {pictures.BYTES_MOST >> 20} MiB")
    # A test of the letters takes a quarter of the time that decoding does.
    coded = text.encode("ascii", "replace")
    bare = coded.rstrip(b"=")
    if len(coded) % 4 or len(coded) - len(bare) > 2 or bare.translate(None, _ALPHABET):
        raise NotAPicture("is no valid base64")
    head = _head(coded, 16 * 1024) if len(coded) > 64 * 1024 else _head(coded, len(coded))
    try:
        picture = pictures.look(head)
    except NotAPicture:
        if not head.startswith(b"\xff\xd8"):
            raise
        # A photograph may have a preview before its size.
        picture = pictures.look(_head(coded, pictures.HEAD_BYTES))
    if picture.media_type != media_type:
        raise NotAPicture(f"is {picture.media_type}, and not {media_type} as its address says")


def _head(coded: bytes, size: int) -> bytes:
    return binascii.a2b_base64(coded[: -(-size // 3) * 4])
