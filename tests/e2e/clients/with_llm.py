"""`llm` on a service of Modelry, by its library; prints a line of JSON for each step.

The model stands in `extra-openai-models.yaml` of the folder that LLM_USER_PATH names.
"""

import json

import llm
from pydantic import BaseModel

model = llm.get_model("modelry")
SHORT = {"temperature": 0, "max_tokens": 64}


class City(BaseModel):
    name: str
    population: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def show(step, **saw):
    print(json.dumps({"step": step, **saw}), flush=True)


def tokens(response):
    return [response.usage().input, response.usage().output]


response = model.prompt("Say hi.", stream=False, **SHORT)
show("chat", text=response.text(), tokens=tokens(response))

response = model.prompt("Say hi.", **SHORT)
pieces = list(response)
show("stream", pieces=len(pieces), text="".join(pieces), tokens=tokens(response))

# `llm` cannot require a call, and a model this small makes one where it is shown how.
for step, streams in (("tool", False), ("streamed tool", True)):
    conversation = model.conversation()
    response = conversation.prompt(
        'Answer with {"name": "weather", "arguments": {"city": "Paris"}}',
        system='To know the weather, answer {"name": "weather", "arguments": {"city": "…"}}.',
        tools=[weather],
        stream=streams,
        **SHORT,
    )
    called = [[call.name, call.arguments] for call in response.tool_calls()]
    results = response.execute_tool_calls()
    said = conversation.prompt(tool_results=results, stream=streams, **SHORT)
    show(step, calls=called, results=[result.output for result in results], text=said.text())

response = model.prompt("Paris has two million people.", schema=City, **SHORT)
show("structured", city=City.model_validate_json(response.text()).model_dump())
