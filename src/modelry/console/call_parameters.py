"""The fields that calls have most often, as a service's page tells of them. All there are, and
which engine goes by which, is in docs/guides/parameters.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """`kind`: what its value is, in JSON's words; `default`: what counts without it; `text`: the
    name of the text that tells of it, where that is not its own.
    """

    name: str
    kind: str
    needed: bool = False
    default: str | None = None
    text: str | None = None

    @property
    def says(self) -> str:
        """The text that says what it is for."""
        return "service_call.field_" + (self.text or self.name)


_MODEL = Parameter("model", "string", needed=True)
_STREAM = Parameter("stream", "boolean", default="false")
_SAMPLING = (
    Parameter("max_tokens", "integer"),
    Parameter("temperature", "number"),
    Parameter("top_p", "number"),
    Parameter("stop", "string | array"),
    Parameter("seed", "integer"),
    _STREAM,
)
_PICTURE = (
    Parameter("size", "string", default="auto"),
    Parameter("num_inference_steps", "integer"),
    Parameter("guidance_scale", "number"),
    Parameter("negative_prompt", "string"),
    Parameter("seed", "integer"),
    Parameter("response_format", "string", default="url", text="picture_format"),
)
_PICTURE_PROMPT = Parameter("prompt", "string", needed=True, text="picture_prompt")

PARAMETERS: dict[str, tuple[Parameter, ...]] = {
    "chat/completions": (
        _MODEL,
        Parameter("messages", "array", needed=True),
        *_SAMPLING,
        Parameter("response_format", "object"),
        Parameter("tools", "array"),
        Parameter("tool_choice", "string | object", default="auto"),
    ),
    "completions": (_MODEL, Parameter("prompt", "string", needed=True), *_SAMPLING),
    "embeddings": (
        _MODEL,
        Parameter("input", "string | array", needed=True),
        Parameter("encoding_format", "string", default="float"),
        Parameter("dimensions", "integer"),
    ),
    "rerank": (
        _MODEL,
        Parameter("query", "string", needed=True),
        Parameter("documents", "array", needed=True),
        Parameter("top_n", "integer"),
        Parameter("return_documents", "boolean", default="false"),
    ),
    "images/generations": (
        _MODEL,
        _PICTURE_PROMPT,
        Parameter("n", "integer", default="1"),
        *_PICTURE,
        _STREAM,
        Parameter("partial_images", "integer", default="0"),
    ),
    "images/edits": (
        _MODEL,
        Parameter("image", "file", needed=True),
        _PICTURE_PROMPT,
        Parameter("strength", "number"),
        *_PICTURE,
    ),
    "audio/speech": (
        _MODEL,
        Parameter("input", "string", needed=True, text="speech_input"),
        Parameter("voice", "string"),
        Parameter("response_format", "string", default="mp3", text="sound_format"),
        Parameter("speed", "number", default="1"),
        Parameter("stream_format", "string", default="audio"),
    ),
    "audio/transcriptions": (
        _MODEL,
        Parameter("file", "file", needed=True),
        Parameter("language", "string"),
        Parameter("prompt", "string", text="heard_prompt"),
        Parameter("response_format", "string", default="json", text="text_format"),
        Parameter("timestamp_granularities[]", "array", text="timestamps"),
        _STREAM,
    ),
}
"""By the path of the call, below the base URL."""
