"""LiteLLM's SDK on a service of Modelry; prints a line of JSON for each step."""

import json
import os

import litellm
from pydantic import BaseModel

litellm.suppress_debug_info = True
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
HI = [{"role": "user", "content": "Say hi."}]
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]


class City(BaseModel):
    name: str
    population: int


def ask(messages, **more):
    return litellm.completion(
        model="openai/" + os.environ["MODELRY_MODEL"],
        api_base=os.environ["MODELRY_BASE_URL"],
        api_key=os.environ["MODELRY_API_KEY"],
        messages=messages,
        max_tokens=64,
        temperature=0,
        num_retries=0,
        **more,
    )


def show(step, **saw):
    print(json.dumps({"step": step, **saw}), flush=True)


def tokens(answer):
    return [answer.usage.prompt_tokens, answer.usage.completion_tokens]


def calls(message):
    return [
        [call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls
    ]


answer = ask(HI)
show("chat", text=answer.choices[0].message.content, tokens=tokens(answer))

pieces = list(ask(HI, stream=True, stream_options={"include_usage": True}))
whole = litellm.stream_chunk_builder(pieces, messages=HI)
texts = [choice.delta.content for piece in pieces for choice in piece.choices]
show(
    "stream",
    pieces=len([text for text in texts if text]),
    text=whole.choices[0].message.content,
    tokens=tokens(whole),
)

# A call that is sure to come, its result, and an answer in words.
called = ask(QUESTION, tools=[WEATHER], tool_choice="required").choices[0].message
results = [
    {"role": "tool", "tool_call_id": call.id, "content": "It is sunny."}
    for call in called.tool_calls
]
said = ask([*QUESTION, called, *results], tools=[WEATHER], tool_choice="none")
show("tool", calls=calls(called), text=said.choices[0].message.content)

# The same by its name, in a stream.
named = {"type": "function", "function": {"name": "weather"}}
pieces = list(ask(QUESTION, tools=[WEATHER], tool_choice=named, stream=True))
whole = litellm.stream_chunk_builder(pieces, messages=QUESTION)
show("streamed tool", calls=calls(whole.choices[0].message))

paris = [{"role": "user", "content": "Paris has two million people."}]
answer = ask(paris, response_format=City).choices[0].message.content
show("structured", city=City.model_validate_json(answer).model_dump())

answer = litellm.responses(
    model="openai/" + os.environ["MODELRY_MODEL"],
    api_base=os.environ["MODELRY_BASE_URL"],
    api_key=os.environ["MODELRY_API_KEY"],
    input="Say hi.",
    max_output_tokens=64,
)
show(
    "responses",
    text=answer.output[0].content[0].text,
    tokens=[answer.usage.input_tokens, answer.usage.output_tokens],
)

# Anthropic's paths begin with /v1 themselves.
answer = litellm.completion(
    model="anthropic/" + os.environ["MODELRY_MODEL"],
    api_base=os.environ["MODELRY_BASE_URL"].removesuffix("/v1"),
    api_key=os.environ["MODELRY_API_KEY"],
    messages=HI,
    max_tokens=64,
)
show("messages", text=answer.choices[0].message.content, tokens=tokens(answer))
