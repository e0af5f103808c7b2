"""Bodies of image requests: JSON, or a form with files, brought to fields and files."""

import base64
import binascii
import json
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from modelry.runners.refusals import Refused

Files = dict[str, list[bytes]]
"""Field → the files that came in it."""

_FIELDS_MAX = 100
_FILES_MAX = 20
_FIELD_BYTES_MAX = 256 * 1024
_URL = "data:image/"


async def read_json(request: Request) -> dict[str, Any]:
    try:
        fields = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused("The body is no valid JSON.") from None
    if not isinstance(fields, dict):
        raise Refused("The body must be a JSON object.")
    return fields


async def read_edit(request: Request) -> tuple[dict[str, Any], Files]:
    """A form's texts and files; or JSON, with pictures as `data:` addresses."""
    kind = request.headers.get("content-type", "").lower()
    if not kind.startswith("multipart/form-data"):
        return _from_json(await read_json(request))
    texts: dict[str, Any] = {}
    files: Files = {}
    async with request.form(
        max_files=_FILES_MAX, max_fields=_FIELDS_MAX, max_part_size=_FIELD_BYTES_MAX
    ) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.setdefault(name.removesuffix("[]"), []).append(await value.read())
            elif name.removesuffix("[]") in ("image", "mask"):
                raise Refused(f"Send '{name}' as a file.", param=name)
            else:
                texts[name] = value
    return texts, files


def _from_json(fields: dict[str, Any]) -> tuple[dict[str, Any], Files]:
    images = fields.pop("images", None) or fields.pop("image", None) or []
    mask = fields.pop("mask", None)
    files: Files = {"image": [_picture(each, "image") for each in _listed(images)]}
    if mask is not None:
        files["mask"] = [_picture(mask, "mask")]
    return fields, files


def _listed(value: Any) -> list[Any]:
    found = value if isinstance(value, list) else [value]
    if len(found) > _FILES_MAX:
        raise Refused(f"{_FILES_MAX} pictures at most.", param="image")
    return found


def _picture(value: Any, name: str) -> bytes:
    url = value.get("image_url") if isinstance(value, dict) else value
    if isinstance(url, dict):
        url = url.get("url")
    if not isinstance(url, str) or not url.startswith(_URL) or ";base64," not in url[:64]:
        # What an address leads to from here is nobody's to fetch.
        raise Refused(
            f"'{name}' must be a picture as data:image/png;base64,…, or a file of a form.",
            param=name,
        )
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"'{name}' is no valid base64.", param=name) from None
