"""Copy-ready programs that call a service. The tests run exactly these texts.

They read the key from the environment, so that nobody pastes one into a file,
and run as they stand once `MODELRY_API_KEY` is set.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

Language = Literal["curl", "python", "node"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
KEY_VARIABLE = "MODELRY_API_KEY"
_MAX_TOKENS = 64


@dataclass(frozen=True)
class Example:
    """`install`: the command that brings what the program needs, if anything."""

    language: Language
    title: str
    streaming: bool
    install: str | None
    code: str


def examples(base_url: str, access_path: str, tasks: tuple[str, ...]) -> list[Example]:
    """Programs for what the service does, default and streaming, in every language.

    `base_url` ends in `/v1`.
    """
    found = []
    if "chat" in tasks:
        found = [
            _CHATS[language](base_url, access_path, streaming)
            for language in LANGUAGES
            for streaming in (False, True)
        ]
        # Whoever can chat shows that, and not its bare form too.
        tasks = tuple(task for task in tasks if task not in ("chat", "completion"))
    return found + [_CURLS[task](base_url, access_path) for task in tasks]


def _title(streaming: bool) -> str:
    return "Chat completion, streaming" if streaming else "Chat completion"


def curl_command(base_url: str, access_path: str, key: str, *, streaming: bool = False) -> str:
    """A curl command line. `key` is put between double quotes: `$NAME` stays a variable."""
    body: dict[str, object] = {
        "model": access_path,
        "messages": [{"role": "user", "content": "Say this is a test!"}],
        "temperature": 0.7,
        "max_tokens": _MAX_TOKENS,
    }
    if streaming:
        body["stream"] = True
    return _curl(f"{base_url}/chat/completions", key, body, flags="-N " if streaming else "")


def _curl(url: str, key: str, body: dict[str, object], flags: str = "") -> str:
    return (
        f"curl {flags}{shlex.quote(url)} \\\n"
        '  -H "Content-Type: application/json" \\\n'
        f'  -H "Authorization: Bearer {key}" \\\n'
        f"  -d {shlex.quote(json.dumps(body, indent=2))}"
    )


def _curl_chat(base_url: str, access_path: str, streaming: bool) -> Example:
    code = curl_command(base_url, access_path, f"${KEY_VARIABLE}", streaming=streaming)
    return Example("curl", _title(streaming), streaming, None, code)


def _curl_json(
    title: str, path: str, fields: dict[str, object], flags: str = ""
) -> Callable[[str, str], Example]:
    """The writer of a call with a JSON body: `model` and these fields."""

    def write(base_url: str, access_path: str) -> Example:
        body = {"model": access_path, **fields}
        code = _curl(f"{base_url}/{path}", f"${KEY_VARIABLE}", body, flags)
        return Example("curl", title, False, None, code)

    return write


def _curl_transcription(base_url: str, access_path: str) -> Example:
    code = (
        f"curl {shlex.quote(f'{base_url}/audio/transcriptions')} \\\n"
        f'  -H "Authorization: Bearer ${KEY_VARIABLE}" \\\n'
        f"  -F {shlex.quote(f'model={access_path}')} \\\n"
        "  -F file=@speech.wav"
    )
    return Example("curl", "Transcription of speech.wav", False, None, code)


def _python_chat(base_url: str, access_path: str, streaming: bool) -> Example:
    start = f"""\
# Needs the OpenAI Python library, 1.0.0 or newer.
import os

from openai import OpenAI

client = OpenAI(
    base_url={json.dumps(base_url + "/")},
    api_key=os.environ[{json.dumps(KEY_VARIABLE)}],
)

messages = [
    {{"role": "user", "content": "hello!"}},
    {{"role": "user", "content": "Say this is a test?"}},
]
"""
    if streaming:
        rest = f"""
stream = client.chat.completions.create(
    model={json.dumps(access_path)},
    messages=messages,
    max_tokens={_MAX_TOKENS},
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
"""
    else:
        rest = f"""
response = client.chat.completions.create(
    model={json.dumps(access_path)},
    messages=messages,
    max_tokens={_MAX_TOKENS},
)
print(response.choices[0].message.content)
"""
    return Example("python", _title(streaming), streaming, "pip install openai", start + rest)


def _node_chat(base_url: str, access_path: str, streaming: bool) -> Example:
    if streaming:
        call = f"""\
  const stream = await openai.chat.completions.create({{
    model: {json.dumps(access_path)},
    messages: [
      {{ role: "user", content: "hello!" }},
      {{ role: "user", content: "how are you?" }},
    ],
    max_tokens: {_MAX_TOKENS},
    stream: true,
  }});
  for await (const chunk of stream) {{
    process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
  }}
  console.log();
"""
    else:
        call = f"""\
  const chatCompletion = await openai.chat.completions.create({{
    model: {json.dumps(access_path)},
    messages: [
      {{ role: "user", content: "hello!" }},
      {{ role: "user", content: "how are you?" }},
    ],
    max_tokens: {_MAX_TOKENS},
  }});
  console.log(chatCompletion.choices[0].message.content);
"""
    body = "".join(f"  {line}\n" if line else "\n" for line in call.splitlines())
    code = f"""\
const OpenAI = require("openai");

const openai = new OpenAI({{
  baseURL: {json.dumps(base_url)},
  apiKey: process.env.{KEY_VARIABLE},
}});

async function main() {{
  try {{
{body}  }} catch (error) {{
    if (error instanceof OpenAI.APIError) {{
      console.error("API Error:", error.status, error.message);
      console.error("Error details:", error.error);
    }} else {{
      console.error("Unexpected error:", error);
    }}
    process.exitCode = 1;
  }}
}}

main();
"""
    return Example("node", _title(streaming), streaming, "npm install openai", code)


_CHATS: dict[Language, Callable[[str, str, bool], Example]] = {
    "curl": _curl_chat,
    "python": _python_chat,
    "node": _node_chat,
}

_CURLS: dict[str, Callable[[str, str], Example]] = {
    "completion": _curl_json(
        "Completion", "completions", {"prompt": "Once upon a time", "max_tokens": _MAX_TOKENS}
    ),
    "embedding": _curl_json("Embedding", "embeddings", {"input": "Say this is a test!"}),
    "rerank": _curl_json(
        "Rerank",
        "rerank",
        {"query": "a sea bird", "documents": ["A gull glides.", "A car drives."]},
    ),
    "image": _curl_json("Image", "images/generations", {"prompt": "A gull above the sea"}),
    "speech": _curl_json(
        "Speech, into speech.wav",
        "audio/speech",
        {"input": "Say this is a test!", "voice": "alloy", "response_format": "wav"},
        flags="-o speech.wav ",
    ),
    "transcription": _curl_transcription,
}
