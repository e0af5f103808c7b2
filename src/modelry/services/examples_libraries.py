"""Programs for libraries beside OpenAI's that many chat applications are written with."""

import json
from dataclasses import dataclass
from string import Template
from typing import Literal

Library = Literal["anthropic", "langchain"]


@dataclass(frozen=True)
class LibraryExample:
    """`path`: what the library calls, below the base URL. The program is in Python."""

    library: Library
    path: str
    streaming: bool
    install: str
    code: str


_ANTHROPIC = """\
# Needs the Anthropic Python library.
import os

from anthropic import Anthropic

client = Anthropic(
    base_url=$origin,
    api_key=os.environ["MODELRY_API_KEY"],
)

"""

_LANGCHAIN = """\
# Needs LangChain's package for OpenAI's API.
import os

from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url=$base,
    api_key=os.environ["MODELRY_API_KEY"],
    model=$model,
    max_tokens=64,
)

"""

_PROGRAMS: dict[tuple[Library, bool], str] = {
    ("anthropic", False): _ANTHROPIC
    + """\
message = client.messages.create(
    model=$model,
    max_tokens=64,
    messages=[{"role": "user", "content": "Say this is a test!"}],
)
print(message.content[0].text)
""",
    ("anthropic", True): _ANTHROPIC
    + """\
with client.messages.stream(
    model=$model,
    max_tokens=64,
    messages=[{"role": "user", "content": "Say this is a test!"}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
""",
    ("langchain", False): _LANGCHAIN
    + """\
answer = model.invoke("Say this is a test!")
print(answer.content)
""",
    ("langchain", True): _LANGCHAIN
    + """\
for chunk in model.stream("Say this is a test!"):
    print(chunk.content, end="", flush=True)
print()
""",
}
_PATHS: dict[Library, str] = {"anthropic": "messages", "langchain": "chat/completions"}
_INSTALLS: dict[Library, str] = {
    "anthropic": "pip install anthropic",
    "langchain": "pip install langchain-openai",
}


def library_examples(base_url: str, access_path: str) -> list[LibraryExample]:
    """Of a service that chats. `base_url` ends in `/v1`, which Anthropic's library adds itself."""
    return [
        LibraryExample(
            library=library,
            path=_PATHS[library],
            streaming=streaming,
            install=_INSTALLS[library],
            code=Template(program).substitute(
                origin=json.dumps(base_url.removesuffix("/v1")),
                base=json.dumps(base_url),
                model=json.dumps(access_path),
            ),
        )
        for (library, streaming), program in _PROGRAMS.items()
    ]
