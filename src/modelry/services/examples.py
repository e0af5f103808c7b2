"""Copy-ready programs that call a service. The tests run exactly these texts.

They read the key from the environment, so that nobody pastes one into a file,
and run as they stand once `MODELRY_API_KEY` is set: those that send a file send
the one that another writes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from modelry.services import examples_curl, examples_node, examples_python

Language = Literal["curl", "python", "node"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
KEY_VARIABLE = "MODELRY_API_KEY"


@dataclass(frozen=True)
class Example:
    """`task`: what of the service it calls, under `path` below the base URL. `install`: the
    command that brings what the program needs, if anything.
    """

    task: str
    path: str
    language: Language
    title: str
    streaming: bool
    install: str | None
    code: str


@dataclass(frozen=True)
class _Call:
    """What a program does. `name` is the key of its texts; `streams`: there is one for that too."""

    task: str
    name: str
    title: str
    streams: bool = False


_CALLS = (
    _Call("chat", "chat", "Chat completion", streams=True),
    _Call("completion", "completion", "Completion", streams=True),
    _Call("embedding", "embedding", "Embedding"),
    _Call("rerank", "rerank", "Rerank"),
    _Call("image", "image", "Image, into gull.png", streams=True),
    _Call("image", "edit", "Image edit, of gull.png"),
    _Call("speech", "speech", "Speech, into speech.wav", streams=True),
    _Call("transcription", "transcription", "Transcription of speech.wav", streams=True),
)

# A program's text and what it needs, of a call's name and whether it streams.
_Write = Callable[[str, bool, str, str], tuple[str, str | None]]
_WRITERS: dict[Language, _Write] = {
    "curl": examples_curl.write,
    "python": examples_python.write,
    "node": examples_node.write,
}


def examples(base_url: str, access_path: str, tasks: tuple[str, ...]) -> list[Example]:
    """Programs for what the service does, default and streaming, in every language.

    `base_url` ends in `/v1`. Whoever can chat shows that, and not its bare form too.
    """
    shown = [task for task in tasks if not (task == "completion" and "chat" in tasks)]
    found = []
    for call in _CALLS:
        if call.task not in shown:
            continue
        for language in LANGUAGES:
            for streaming in (False, True) if call.streams else (False,):
                title = f"{call.title}, streaming" if streaming else call.title
                code, install = _WRITERS[language](call.name, streaming, base_url, access_path)
                path = examples_curl.path_of(call.name)
                found.append(Example(call.task, path, language, title, streaming, install, code))
    return found
