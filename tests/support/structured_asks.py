"""Twenty schemas as people write them, each with something to ask."""

from dataclasses import dataclass
from typing import Any

Json = Any


@dataclass(frozen=True)
class Ask:
    """`schema`: of a function's arguments, or of an answer."""

    name: str
    description: str
    question: str
    schema: Json


def closed(*needed: str, **properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(needed or properties),
        "additionalProperties": False,
    }


TEXT = {"type": "string"}
# What pydantic's model_json_schema() writes of nested models with defaults.
_PYDANTIC_ORDER = {
    "$defs": {
        "Address": {
            "description": "Where to send it.",
            "properties": {
                "street": {"title": "Street", "type": "string"},
                "city": {"title": "City", "type": "string"},
                "postcode": {
                    "anyOf": [{"type": "string"}, {"type": "null"}],
                    "default": None,
                    "title": "Postcode",
                },
            },
            "required": ["street", "city"],
            "title": "Address",
            "type": "object",
        },
        "Item": {
            "properties": {
                "sku": {"pattern": "^[A-Z]{3}-\\d{4}$", "title": "Sku", "type": "string"},
                "quantity": {
                    "default": 1,
                    "maximum": 99,
                    "minimum": 1,
                    "title": "Quantity",
                    "type": "integer",
                },
                "price": {
                    "anyOf": [{"minimum": 0, "type": "number"}, {"type": "null"}],
                    "default": None,
                    "title": "Price",
                },
            },
            "required": ["sku"],
            "title": "Item",
            "type": "object",
        },
        "Priority": {"enum": ["low", "normal", "high"], "title": "Priority", "type": "string"},
    },
    "properties": {
        "customer": {"title": "Customer", "type": "string"},
        "address": {"$ref": "#/$defs/Address"},
        "items": {
            "items": {"$ref": "#/$defs/Item"},
            "minItems": 1,
            "title": "Items",
            "type": "array",
        },
        "priority": {"$ref": "#/$defs/Priority", "default": "normal"},
        "note": {
            "anyOf": [{"maxLength": 200, "type": "string"}, {"type": "null"}],
            "default": None,
            "description": "Anything the courier should know.",
            "title": "Note",
        },
    },
    "required": ["customer", "address", "items"],
    "title": "Order",
    "type": "object",
}
# Two kinds told apart by a field, as pydantic's discriminated unions are.
_PYDANTIC_UNION = {
    "$defs": {
        "Cat": {
            "properties": {
                "kind": {"const": "cat", "title": "Kind", "type": "string"},
                "lives": {"default": 9, "maximum": 9, "minimum": 0, "type": "integer"},
            },
            "required": ["kind"],
            "title": "Cat",
            "type": "object",
        },
        "Dog": {
            "properties": {
                "kind": {"const": "dog", "title": "Kind", "type": "string"},
                "good": {"title": "Good", "type": "boolean"},
            },
            "required": ["kind", "good"],
            "title": "Dog",
            "type": "object",
        },
    },
    "properties": {
        "pet": {
            "discriminator": {
                "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"},
                "propertyName": "kind",
            },
            "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
            "title": "Pet",
        },
        "name": {"examples": ["Rex"], "title": "Name", "type": "string"},
    },
    "required": ["pet", "name"],
    "title": "Owner",
    "type": "object",
}
_PYDANTIC_EVENT = {
    "$defs": {
        "Person": {
            "properties": {
                "name": {"title": "Name", "type": "string"},
                "email": {"format": "email", "title": "Email", "type": "string"},
            },
            "required": ["name", "email"],
            "title": "Person",
            "type": "object",
        }
    },
    "properties": {
        "title": {"title": "Title", "type": "string"},
        "start": {"format": "date-time", "title": "Start", "type": "string"},
        "end": {
            "anyOf": [{"format": "date-time", "type": "string"}, {"type": "null"}],
            "default": None,
            "title": "End",
        },
        "attendees": {
            "default": [],
            "items": {"$ref": "#/$defs/Person"},
            "title": "Attendees",
            "type": "array",
        },
        "tags": {
            "items": {"type": "string"},
            "title": "Tags",
            "type": "array",
            "uniqueItems": False,
        },
        "extra": {
            "additionalProperties": {"type": "string"},
            "default": {},
            "title": "Extra",
            "type": "object",
        },
    },
    "required": ["title", "start"],
    "title": "Event",
    "type": "object",
}
_TREE = {
    "$defs": {
        "folder": closed(name=TEXT, children={"type": "array", "items": {"$ref": "#/$defs/folder"}})
    },
    "$ref": "#/$defs/folder",
}

ASKS = (
    Ask(
        "get_weather",
        "The weather in a city.",
        "What is the weather in Paris, in celsius?",
        closed("city", city=TEXT, unit={"type": "string", "enum": ["celsius", "fahrenheit"]}),
    ),
    Ask("create_order", "Place an order.", "Order three pens for Ann, Main St 1.", _PYDANTIC_ORDER),
    Ask("register_pet", "Register a pet.", "Register my dog Rex, who is good.", _PYDANTIC_UNION),
    Ask(
        "create_event",
        "Put an event into the calendar.",
        "Lunch with Bob on Friday at noon.",
        _PYDANTIC_EVENT,
    ),
    Ask("make_folders", "Make folders.", "Make a folder 'a' with 'b' and 'c' in it.", _TREE),
    Ask(
        "set_temperature",
        "Set a room's temperature.",
        "Make the kitchen 21.5 degrees.",
        closed(
            room={"enum": ["kitchen", "bedroom", "bath"]},
            degrees={"type": "number", "minimum": 5, "maximum": 30.5},
            minutes={"type": "integer", "exclusiveMinimum": 0, "maximum": 1440},
        ),
    ),
    Ask(
        "translate",
        "Übersetzt einen Text.",
        "Übersetze 'guten Morgen' ins Japanische.",
        closed(
            text={"type": "string", "description": "Der Text, z. B. „Größe“"},
            sprache={"enum": ["日本語", "français", "ελληνικά", "emoji 😀"]},
            höflich={"type": "boolean"},
        ),
    ),
    Ask(
        "add_contact",
        "Add a contact.",
        "Add Zoë, zoe@example.com, born 1990-02-03.",
        {
            "type": "object",
            "properties": {
                "name": TEXT,
                "email": {"type": "string", "format": "email"},
                "born": {"type": ["string", "null"], "format": "date"},
                "phones": {"type": "array", "items": {"type": "string", "pattern": "^\\+?\\d+$"}},
            },
            "required": ["name"],
        },
    ),
    Ask(
        "search_web",
        "Search the web.",
        "Search for the tallest mountain.",
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1},
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
                "site": TEXT,
                "safe": {"type": "boolean", "default": True},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
    ),
    Ask(
        "run_sql",
        "Run a query.",
        "Count the users that are older than 30.",
        closed(sql={"type": "string", "description": "One SELECT."}, params={"type": "array"}),
    ),
    Ask(
        "plot",
        "Draw a line.",
        "Plot the points (1, 2) and (3, 4).",
        closed(
            points={
                "type": "array",
                "items": {
                    "type": "array",
                    "prefixItems": [{"type": "number"}, {"type": "number"}],
                    "items": False,
                    "minItems": 2,
                    "maxItems": 2,
                },
            },
            color={"type": "string", "pattern": "^#[0-9a-f]{6}$"},
        ),
    ),
    Ask("set_config", "Set options.", "Set debug to true and name to x.", {"type": "object"}),
    Ask(
        "send_email",
        "Send an email.",
        "Mail bob@example.com that lunch is off.",
        closed(
            *("to", "subject", "body"),
            to={"type": "array", "items": {"type": "string", "format": "email"}, "minItems": 1},
            cc={"type": "array", "items": {"type": "string", "format": "email"}},
            subject=TEXT,
            body=TEXT,
            headers={"type": "object", "additionalProperties": TEXT},
        ),
    ),
    Ask(
        "invoice",
        "Read an invoice.",
        "Acme billed 3 hours at 80.50 each on 2024-05-06.",
        closed(
            vendor=TEXT,
            total={"type": "number", "minimum": 0},
            currency={"type": "string", "minLength": 3, "maxLength": 3},
            lines={
                "type": "array",
                "items": closed(
                    what=TEXT,
                    quantity={"type": "integer", "minimum": 1},
                    each={"type": "number", "minimum": 0, "multipleOf": 0.01},
                ),
            },
        ),
    ),
    Ask(
        "move",
        "Move the robot.",
        "Go two steps north, then stop.",
        closed(
            steps={
                "type": "array",
                "minItems": 1,
                "maxItems": 5,
                "items": {
                    "anyOf": [
                        closed(go={"enum": ["n", "e", "s", "w"]}, by={"type": "integer"}),
                        closed(wait_s={"type": "number", "exclusiveMinimum": 0, "maximum": 9.5}),
                        {"const": "stop"},
                    ]
                },
            }
        ),
    ),
    Ask(
        "rate_film",
        "Rate a film.",
        "Rate Amélie: five of five, funny and warm.",
        closed(
            title=TEXT,
            stars={"type": "integer", "enum": [1, 2, 3, 4, 5]},
            moods={
                "type": "array",
                "items": {"enum": ["funny", "sad", "warm", "dark"]},
                "uniqueItems": True,
            },
            review={"anyOf": [{"type": "string", "maxLength": 80}, {"type": "null"}]},
        ),
    ),
    Ask(
        "math_steps",
        "Solve step by step.",
        "Solve 8x + 7 = -23.",
        closed(
            steps={"type": "array", "items": closed(explanation=TEXT, output=TEXT)},
            final_answer=TEXT,
        ),
    ),
    Ask(
        "book_flight",
        "Book a flight.",
        "Fly me from Oslo to Rome on 1 June, two adults.",
        {
            "allOf": [
                closed("from", "to", **{"from": TEXT, "to": TEXT}) | {"additionalProperties": True},
                {
                    "type": "object",
                    "properties": {
                        "on": {"type": "string", "format": "date"},
                        "adults": {"type": "integer", "minimum": 1, "maximum": 9},
                        "class": {"enum": ["economy", "business", None]},
                    },
                    "required": ["on", "adults"],
                },
            ]
        },
    ),
    Ask(
        "profile",
        "Extract a profile.",
        "I am Jürgen, 43, from Köln; I like chess and 将棋.",
        closed(
            *("person", "likes"),
            person=closed(
                "name",
                name={"type": "string", "minLength": 1},
                age={"type": ["integer", "null"], "minimum": 0, "maximum": 150},
                home=closed(city=TEXT, geo=closed(lat={"type": "number"}, lon={"type": "number"})),
            ),
            likes={"type": "array", "items": TEXT},
            id={"type": "string", "format": "uuid"},
        ),
    ),
    Ask(
        "bug_report",
        "Report a bug.",
        'Saving a file named "a\\b" crashes the editor.',
        closed(
            **{
                'the "title"': TEXT,
                "path\\to": {"type": "string", "maxLength": 40},
                "severity": {"type": "integer", "minimum": -1, "maximum": 10},
                "labels": {"type": "array", "items": TEXT, "maxItems": 3},
                "meta": {"type": "object", "properties": {"any": {}}, "required": ["any"]},
            }
        ),
    ),
)
