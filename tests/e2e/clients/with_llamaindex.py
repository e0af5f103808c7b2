"""LlamaIndex's OpenAILike on a service of Modelry; prints a line of JSON for each step."""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class City(BaseModel):
    name: str
    population: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def model(**more):
    return OpenAILike(
        api_base=os.environ["MODELRY_BASE_URL"],
        api_key=os.environ["MODELRY_API_KEY"],
        model=os.environ["MODELRY_MODEL"],
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=2048,
        max_tokens=64,
        temperature=0,
        max_retries=0,
        **more,
    )


def show(step, **saw):
    print(json.dumps({"step": step, **saw}), flush=True)


def calls(answer):
    made = llm.get_tool_calls_from_response(answer)
    return [[call.tool_name, call.tool_kwargs] for call in made]


llm = model()
tool = FunctionTool.from_defaults(weather)
hi = [ChatMessage(role="user", content="Say hi.")]
question = ChatMessage(role="user", content="What is the weather in Paris?")
paris = "Paris has two million people."

answer = llm.chat(hi)
usage = answer.raw.usage
show("chat", text=answer.message.content, tokens=[usage.prompt_tokens, usage.completion_tokens])

pieces = list(llm.stream_chat(hi, stream_options={"include_usage": True}))
usage = pieces[-1].raw.usage
show(
    "stream",
    pieces=len([piece for piece in pieces if piece.delta]),
    text=pieces[-1].message.content,
    tokens=[usage.prompt_tokens, usage.completion_tokens],
)

# A call that is sure to come, its result, and an answer in words.
called = llm.chat_with_tools([tool], chat_history=[question], tool_required=True)
results = [
    ChatMessage(
        role="tool",
        content=weather(**call.tool_kwargs),
        additional_kwargs={"tool_call_id": call.tool_id},
    )
    for call in llm.get_tool_calls_from_response(called)
]
said = llm.chat([question, called.message, *results])
show("tool", calls=calls(called), text=said.message.content)

# The same in a stream.
*_, last = llm.stream_chat_with_tools([tool], user_msg=question, tool_required=True)
show("streamed tool", calls=calls(last))

show("structured by a tool", city=llm.as_structured_llm(City).complete(paris).raw.model_dump())
by_schema = model(should_use_structured_outputs=True).as_structured_llm(City)
show("structured", city=by_schema.complete(paris).raw.model_dump())
