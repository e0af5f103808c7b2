"""What the programs of `examples.py` are answered, as it once was, for pages that show it beside
them. The tests hold each against what a gateway answers.
"""

from dataclasses import dataclass
from string import Template

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Answer:
    """`content_type`: the header of that name. `text`: what follows; None where it is no text."""

    content_type: str
    text: str | None


_WHOLE = {
    "chat/completions": """\
{
  "id": "chatcmpl-zZNKzKkQ5Y7V6PRPARChCk2ame0Py2EF",
  "object": "chat.completion",
  "created": 1795918361,
  "model": "$model",
  "choices": [
    {
      "index": 0,
      "message": {
        "role": "assistant",
        "content": "This is a test!",
        "refusal": null
      },
      "logprobs": null,
      "finish_reason": "stop"
    }
  ],
  "usage": {
    "prompt_tokens": 36,
    "completion_tokens": 6,
    "total_tokens": 42
  }
}""",
    "completions": """\
{
  "id": "cmpl-oojb6YXd4sBT202lx52nKqMk4SdGOEVd",
  "object": "text_completion",
  "created": 1795918361,
  "model": "$model",
  "choices": [
    {
      "index": 0,
      "text": ", the town of Ashwood had a",
      "logprobs": null,
      "finish_reason": "length"
    }
  ],
  "usage": {
    "prompt_tokens": 4,
    "completion_tokens": 8,
    "total_tokens": 12
  }
}""",
    "messages": """\
{
  "id": "msg_Hb9DM65Hq6gVVdAuOGnNODVzZI4davlB",
  "type": "message",
  "role": "assistant",
  "model": "$model",
  "content": [
    {
      "type": "text",
      "text": "This is a test!"
    }
  ],
  "stop_reason": "end_turn",
  "stop_sequence": null,
  "usage": {
    "input_tokens": 36,
    "output_tokens": 6
  }
}""",
    "embeddings": """\
{
  "object": "list",
  "data": [
    {
      "object": "embedding",
      "index": 0,
      "embedding": [-0.0363, 0.0346, -0.0461]
    },
    {
      "object": "embedding",
      "index": 1,
      "embedding": [0.0244, 0.0099, -0.0268]
    }
  ],
  "model": "$model",
  "usage": {
    "prompt_tokens": 14,
    "total_tokens": 14
  }
}""",
    "rerank": """\
{
  "id": "req_3d5a024e467a000000004d",
  "model": "$model",
  "results": [
    {
      "index": 0,
      "relevance_score": 0.875
    },
    {
      "index": 1,
      "relevance_score": 0.125
    }
  ],
  "usage": {
    "prompt_tokens": 18,
    "total_tokens": 18
  }
}""",
    "audio/transcriptions": """\
{
  "text": "Say this is a test!",
  "usage": {
    "type": "duration",
    "seconds": 2
  }
}""",
}
_PICTURE = """\
{
  "created": 1795918414,
  "data": [
    {
      "url": "$base/images/files/35af724f….png?expires=1795922014&signature=ed98f77e…"
    }
  ],
  "background": "opaque",
  "output_format": "png",
  "size": "512x512"
}"""
_WHOLE |= {"images/generations": _PICTURE, "images/edits": _PICTURE}

_CHUNK = (
    '{"id":"chatcmpl-jNLAvg7uBArjiJFWVH70ASzMjaf753VU","object":"chat.completion.chunk",'
    '"created":1795918361,"model":"$model","choices":[{"index":0,"delta":{'
)
_PIECE = (
    '{"id":"cmpl-QzbkqUdF9RUfqDgs06wqMJNnnnQP0WXK","object":"text_completion",'
    '"created":1795918362,"model":"$model","choices":[{"index":0,"text":'
)
_STREAMS = {
    "chat/completions": f"""\
data: {_CHUNK}"role":"assistant","content":""}},"finish_reason":null}}]}}

data: {_CHUNK}"content":"This"}},"finish_reason":null}}]}}

data: {_CHUNK}"content":" is a test!"}},"finish_reason":null}}]}}

data: {_CHUNK}}},"finish_reason":"stop"}}]}}

data: [DONE]""",
    "completions": f"""\
data: {_PIECE}", the","logprobs":null,"finish_reason":null}}]}}

data: {_PIECE}" town","logprobs":null,"finish_reason":null}}]}}

data: {_PIECE}"","logprobs":null,"finish_reason":"length"}}]}}

data: [DONE]""",
    "messages": """\
event: message_start
data: {"type":"message_start","message":{"id":"msg_BGkL2nJt6bZApam4dlaQskbSsS68RnJ6",\
"type":"message","role":"assistant","model":"$model","content":[],"stop_reason":null,\
"usage":{"input_tokens":36,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"This"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,\
"delta":{"type":"text_delta","text":" is a test!"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},\
"usage":{"output_tokens":6}}

event: message_stop
data: {"type":"message_stop"}""",
    "images/generations": """\
event: image_generation.partial_image
data: {"type":"image_generation.partial_image","partial_image_index":0,\
"b64_json":"iVBORw0KGgoAAAANSUhEUg…","created_at":1795919511,"size":"512x512",\
"quality":"auto","background":"opaque","output_format":"png"}

event: image_generation.partial_image
data: {"type":"image_generation.partial_image","partial_image_index":1,\
"b64_json":"iVBORw0KGgoAAAANSUhEUg…","created_at":1795919511,"size":"512x512",\
"quality":"auto","background":"opaque","output_format":"png"}

event: image_generation.completed
data: {"type":"image_generation.completed","b64_json":"iVBORw0KGgoAAAANSUhEUg…",\
"created_at":1795919512,"size":"512x512","quality":"auto","background":"opaque",\
"output_format":"png","usage":{"input_tokens":15,"input_tokens_details":\
{"text_tokens":15,"image_tokens":0},"output_tokens":0,"total_tokens":15}}""",
    "audio/speech": """\
event: speech.audio.delta
data: {"type":"speech.audio.delta","audio":"UklGRqRRAQBXQVZFZm10IBAAAAABAAEA…"}

event: speech.audio.done
data: {"type":"speech.audio.done",\
"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0}}""",
    "audio/transcriptions": """\
event: transcript.text.delta
data: {"type":"transcript.text.delta","delta":"Say this is a test!"}

event: transcript.text.done
data: {"type":"transcript.text.done","text":"Say this is a test!",\
"usage":{"type":"duration","seconds":2}}""",
}


def example_answer(path: str, *, streaming: bool, base_url: str, access_path: str) -> Answer:
    """Of a call of `path`, which is below `base_url`. Raises `KeyError` for a path without one."""
    if path == "audio/speech" and not streaming:
        return Answer("audio/wav", None)
    text = (_STREAMS if streaming else _WHOLE)[path]
    # Neither an address nor an access path has what JSON writes otherwise.
    filled = Template(text).substitute(model=access_path, base=base_url)
    return Answer(EVENTS if streaming else JSON, filled)
