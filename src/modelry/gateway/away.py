"""What is answered in place of the control plane while it is away: a page to browsers, an error
to programs.

The page has all that it needs in itself, and asks again by itself until the control plane is back.
"""

import base64
import hashlib

from modelry.gateway.replies import Reply, error
from modelry.gateway.request import Request

_AGAIN_S = 2
_MESSAGE = "The control plane does not answer. It is being restarted; try again in a moment."
_STYLE = (
    ":root{color-scheme:light dark}body{display:grid;place-content:center;min-height:90vh;margin:0;"
    "padding:1rem;text-align:center;font:1rem/1.6 system-ui,sans-serif;"
    "color:light-dark(#14171f,#e9ebf0);background:light-dark(#f6f7f9,#0d0f13)}"
    "p{color:light-dark(#586070,#9fa8b7)}"
)
# https://www.w3.org/TR/CSP3/#grammardef-hash-source
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_TEXTS = {
    b"zh": ("zh-CN", "Modelry 正在重新启动", "服务的调用不受影响。此页面会自动重试。"),
    b"en": (
        "en",
        "Modelry is starting again",
        "Calls of services go on meanwhile. This page tries again by itself.",
    ),
}
_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{again}">
<title>Modelry</title><style>{style}</style></head>
<body><main><h1>{title}</h1><p>{text}</p></main></body></html>
"""
_LINES = (
    "content-type: text/html; charset=utf-8\r\n"
    f"content-security-policy: default-src 'none'; style-src 'sha256-{_HASH}'\r\n"
    "x-content-type-options: nosniff\r\ncache-control: no-store\r\n"
    f"retry-after: {_AGAIN_S}\r\n"
).encode()


def away(request: Request) -> Reply:
    if request.method != b"GET" or b"text/html" not in request.fields.get(b"accept", b""):
        return error(503, "unavailable", _MESSAGE, retry_after_s=_AGAIN_S)
    chinese = b"language=zh" in request.fields.get(b"cookie", b"") or request.fields.get(
        b"accept-language", b""
    ).lower().startswith(b"zh")
    language, title, text = _TEXTS[b"zh" if chinese else b"en"]
    body = _PAGE.format(language=language, title=title, text=text, style=_STYLE, again=_AGAIN_S)
    return Reply(503, body.encode(), lines=_LINES)
