"""LangChain's ChatOpenAI on a service of Modelry; prints a line of JSON for each step."""

import json
import os

from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class City(BaseModel):
    name: str
    population: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


model = ChatOpenAI(
    base_url=os.environ["MODELRY_BASE_URL"],
    api_key=os.environ["MODELRY_API_KEY"],
    model=os.environ["MODELRY_MODEL"],
    temperature=0,
    max_tokens=64,
    max_retries=0,
    stream_usage=True,
)
PARIS = "Paris has two million people."


def show(step, **saw):
    print(json.dumps({"step": step, **saw}), flush=True)


def tokens(message):
    return [message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]]


answer = model.invoke("Say hi.")
show("chat", text=answer.content, tokens=tokens(answer))

pieces = list(model.stream("Say hi."))
whole = sum(pieces[1:], pieces[0])
texts = [piece.content for piece in pieces if piece.content]
show("stream", pieces=len(texts), text=whole.content, tokens=tokens(whole))

# A call that is sure to come, its result, and an answer in words.
question = HumanMessage("What is the weather in Paris?")
called = model.bind_tools([weather], tool_choice="required").invoke([question])
results = [
    ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in called.tool_calls
]
said = model.bind_tools([weather], tool_choice="none").invoke([question, called, *results])
show("tool", calls=[[call["name"], call["args"]] for call in called.tool_calls], text=said.content)

# The same by its name, in a stream.
pieces = list(model.bind_tools([weather], tool_choice="weather").stream([question]))
whole = sum(pieces[1:], pieces[0])
assert isinstance(whole, AIMessageChunk)
show("streamed tool", calls=[[call["name"], call["args"]] for call in whole.tool_calls])

show("structured", city=model.with_structured_output(City).invoke(PARIS).model_dump())
by_a_tool = model.with_structured_output(City, method="function_calling")
show("structured by a tool", city=by_a_tool.invoke(PARIS).model_dump())

responding = model.model_copy(update={"use_responses_api": True})
answer = responding.invoke("Say hi.")
show("responses", text=answer.text, tokens=tokens(answer))
