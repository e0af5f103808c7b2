"""The programs as curl command lines."""

import json
import shlex

_MAX_TOKENS = 64
_KEY = '  -H "Authorization: Bearer $MODELRY_API_KEY"'

# Call → its path, the fields of its body beside `model`, and those that a stream has instead.
_BODIES: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "chat": (
        "chat/completions",
        {
            "messages": [{"role": "user", "content": "Say this is a test!"}],
            "temperature": 0.7,
            "max_tokens": _MAX_TOKENS,
        },
        {"stream": True},
    ),
    "completion": (
        "completions",
        {"prompt": "Once upon a time", "max_tokens": _MAX_TOKENS},
        {"stream": True},
    ),
    "embedding": ("embeddings", {"input": ["Say this is a test!", "And this is another."]}, {}),
    "rerank": (
        "rerank",
        {"query": "a sea bird", "documents": ["A gull glides.", "A car drives."]},
        {},
    ),
    "image": (
        "images/generations",
        {"prompt": "A gull above the sea", "response_format": "url"},
        {"response_format": "b64_json", "stream": True, "partial_images": 2},
    ),
    "speech": (
        "audio/speech",
        {"input": "Say this is a test!", "voice": "alloy", "response_format": "wav"},
        {"stream_format": "sse"},
    ),
}
# What is done with the answer that a call leaves in a file.
_PICTURE = r"""
cat gull.json
sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' gull.json | xargs -I{} curl -sS -o gull.png {}"""
# The same of those that send a file, as the fields of a form.
_FORMS = {
    "edit": (
        "images/edits",
        ["prompt=The same gull at night", "response_format=url", "image=@gull.png"],
    ),
    "transcription": ("audio/transcriptions", ["file=@speech.wav"]),
}


def path_of(name: str) -> str:
    """Of a call, below the base URL."""
    return _FORMS[name][0] if name in _FORMS else _BODIES[name][0]


def write(name: str, streaming: bool, base_url: str, access_path: str) -> tuple[str, None]:
    """The text of a call, which needs nothing besides."""
    flags, then = "-N " if streaming else "", ""
    if name in _FORMS:
        path, fields = _FORMS[name]
        wanted = [f"model={access_path}", *fields, *(["stream=true"] if streaming else [])]
        rest = [_KEY, *(f"  -F {shlex.quote(field)}" for field in wanted)]
    else:
        path, body, stream = _BODIES[name]
        body = {"model": access_path, **body, **(stream if streaming else {})}
        if name == "speech" and not streaming:
            flags = "-o speech.wav "
        elif name == "image" and not streaming:
            flags, then = "-sS -o gull.json ", _PICTURE
        data = shlex.quote(json.dumps(body, indent=2))
        rest = ['  -H "Content-Type: application/json"', _KEY, f"  -d {data}"]
    asked = " \\\n".join([f"curl {flags}{shlex.quote(f'{base_url}/{path}')}", *rest])
    return asked + then, None
