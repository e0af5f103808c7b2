"""The programs in Python: for OpenAI's library and, where that has no such call, for requests."""

import json
from string import Template

_HEAD = """\
# Needs the OpenAI Python library, $version or newer.
import os

from openai import OpenAI

client = OpenAI(
    base_url=$base,
    api_key=os.environ["MODELRY_API_KEY"],
)

"""

_HEAD_WITH_BYTES = _HEAD.replace("import os\n", "import base64\nimport os\n")

_CHAT = """\
messages = [
    {"role": "user", "content": "hello!"},
    {"role": "user", "content": "Say this is a test?"},
]

"""

_PROGRAMS = {
    ("chat", False): _HEAD
    + _CHAT
    + """\
response = client.chat.completions.create(
    model=$model,
    messages=messages,
    max_tokens=64,
)
print(response.choices[0].message.content)
""",
    ("chat", True): _HEAD
    + _CHAT
    + """\
stream = client.chat.completions.create(
    model=$model,
    messages=messages,
    max_tokens=64,
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
""",
    ("completion", False): _HEAD
    + """\
response = client.completions.create(
    model=$model,
    prompt="Once upon a time",
    max_tokens=64,
)
print(response.choices[0].text)
""",
    ("completion", True): _HEAD
    + """\
stream = client.completions.create(
    model=$model,
    prompt="Once upon a time",
    max_tokens=64,
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].text, end="", flush=True)
print()
""",
    ("embedding", False): _HEAD
    + """\
response = client.embeddings.create(
    model=$model,
    input=["Say this is a test!", "And this is another."],
)
for each in response.data:
    print(each.index, len(each.embedding), each.embedding[:3])
""",
    ("rerank", False): """\
# Needs requests: OpenAI's library has no such call.
import os

import requests

documents = ["A gull glides.", "A car drives."]
response = requests.post(
    $base + "rerank",
    headers={"Authorization": "Bearer " + os.environ["MODELRY_API_KEY"]},
    json={"model": $model, "query": "a sea bird", "documents": documents},
    timeout=60,
)
response.raise_for_status()
for each in response.json()["results"]:
    print(each["relevance_score"], documents[each["index"]])
""",
    ("image", False): _HEAD_WITH_BYTES
    + """\
response = client.images.generate(
    model=$model,
    prompt="A gull above the sea",
    response_format="b64_json",
)
with open("gull.png", "wb") as file:
    file.write(base64.b64decode(response.data[0].b64_json))
print("gull.png")
""",
    ("image", True): _HEAD_WITH_BYTES
    + """\
stream = client.images.generate(
    model=$model,
    prompt="A gull above the sea",
    response_format="b64_json",
    stream=True,
    partial_images=2,
)
for event in stream:
    if event.type == "image_generation.partial_image":
        name = f"gull-{event.partial_image_index}.png"
    elif event.type == "image_generation.completed":
        name = "gull.png"
    else:
        continue
    with open(name, "wb") as file:
        file.write(base64.b64decode(event.b64_json))
    print(name)
""",
    ("edit", False): _HEAD_WITH_BYTES
    + """\
with open("gull.png", "rb") as image:
    response = client.images.edit(
        model=$model,
        image=image,
        prompt="The same gull at night",
        response_format="b64_json",
    )
with open("gull-at-night.png", "wb") as file:
    file.write(base64.b64decode(response.data[0].b64_json))
print("gull-at-night.png")
""",
    ("speech", False): _HEAD
    + """\
response = client.audio.speech.create(
    model=$model,
    input="Say this is a test!",
    voice="alloy",
    response_format="wav",
)
with open("speech.wav", "wb") as file:
    file.write(response.content)
print("speech.wav")
""",
    ("speech", True): _HEAD
    + """\
# What has been spoken is written while the rest is still being spoken.
with client.audio.speech.with_streaming_response.create(
    model=$model,
    input="Say this is a test!",
    voice="alloy",
    response_format="wav",
) as response:
    with open("speech.wav", "wb") as file:
        for chunk in response.iter_bytes():
            file.write(chunk)
print("speech.wav")
""",
    ("transcription", False): _HEAD
    + """\
with open("speech.wav", "rb") as file:
    response = client.audio.transcriptions.create(
        model=$model,
        file=file,
    )
print(response.text)
""",
    ("transcription", True): _HEAD
    + """\
with open("speech.wav", "rb") as file:
    stream = client.audio.transcriptions.create(
        model=$model,
        file=file,
        stream=True,
    )
    for event in stream:
        if event.type == "transcript.text.delta":
            print(event.delta, end="", flush=True)
print()
""",
}

# Calls that came into the library later.
_VERSIONS = {"chat": "1.0.0", "completion": "1.0.0", "embedding": "1.0.0"}


def write(name: str, streaming: bool, base_url: str, access_path: str) -> tuple[str, str]:
    """The text of a call, and the command that brings what it needs."""
    code = Template(_PROGRAMS[name, streaming]).substitute(
        base=json.dumps(f"{base_url}/"),
        model=json.dumps(access_path),
        version=_VERSIONS.get(name, "2.0.0"),
    )
    return code, "pip install requests" if name == "rerank" else "pip install openai"
