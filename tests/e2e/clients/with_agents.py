"""The OpenAI Agents SDK on a service of Modelry; prints a line of JSON for each step."""

import asyncio
import json
import os

from agents import (
    Agent,
    ModelSettings,
    MultiProvider,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    UserError,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

client = AsyncOpenAI(
    base_url=os.environ["MODELRY_BASE_URL"],
    api_key=os.environ["MODELRY_API_KEY"],
    max_retries=0,
)
set_default_openai_client(client, use_for_tracing=False)
set_tracing_disabled(True)
PATH = os.environ["MODELRY_MODEL"]
NAME = PATH.rpartition("/")[2]
SHORT = ModelSettings(temperature=0, max_tokens=64, include_usage=True)


class City(BaseModel):
    name: str
    population: int


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def show(step, **saw):
    print(json.dumps({"step": step, **saw}), flush=True)


def tokens(result):
    usage = result.context_wrapper.usage
    return [usage.input_tokens, usage.output_tokens]


def calls(result):
    made = [item.raw_item for item in result.new_items if item.type == "tool_call_item"]
    return [[call.name, json.loads(call.arguments)] for call in made]


async def run(kind, model):
    plain = Agent(name="Plain", instructions="Be brief.", model=model, model_settings=SHORT)
    result = await Runner.run(plain, "Say hi.")
    show(f"{kind}chat", text=result.final_output, tokens=tokens(result))

    result = Runner.run_streamed(plain, "Say hi.")
    events = [event.data async for event in result.stream_events() if hasattr(event, "data")]
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    show(f"{kind}stream", pieces=len(texts), text=result.final_output, tokens=tokens(result))

    # A call that is sure to come, its result, and an answer in words.
    forecaster = Agent(
        name="Forecaster",
        model=model,
        tools=[weather],
        tool_use_behavior="stop_on_first_tool",
        model_settings=SHORT.resolve(ModelSettings(tool_choice="required")),
    )
    called = await Runner.run(forecaster, "What is the weather in Paris?")
    said = await Runner.run(plain, called.to_input_list())
    show(f"{kind}tool", calls=calls(called), text=said.final_output)

    # The same by its name, in a stream.
    by_name = forecaster.clone(model_settings=SHORT.resolve(ModelSettings(tool_choice="weather")))
    result = Runner.run_streamed(by_name, "What is the weather in Paris?")
    async for _ in result.stream_events():
        pass
    show(f"{kind}streamed tool", calls=calls(result))

    reader = Agent(name="Reader", model=model, output_type=City, model_settings=SHORT)
    result = await Runner.run(reader, "Paris has two million people.")
    show(f"{kind}structured", city=result.final_output.model_dump())


async def main():
    await run("", NAME)
    await run("chat completions: ", OpenAIChatCompletionsModel(PATH, client))

    # An access path has a slash, and what stands before one is a provider to this SDK.
    by_path = Agent(name="Plain", model=PATH, model_settings=SHORT)
    try:
        await Runner.run(by_path, "Say hi.")
    except UserError as error:
        show("path", error=str(error))
    whole = RunConfig(
        model_provider=MultiProvider(openai_client=client, unknown_prefix_mode="model_id")
    )
    result = await Runner.run(by_path, "Say hi.", run_config=whole)
    show("path by the provider", text=result.final_output)
    by_path.model = OpenAIResponsesModel(PATH, client)
    result = await Runner.run(by_path, "Say hi.")
    show("path by a model", text=result.final_output)


asyncio.run(main())
