"""Objects and arrays of a schema."""

from collections.abc import Mapping

from modelry.gateway.grammars import scalars, strings
from modelry.gateway.grammars.compiling import (
    COLON,
    COMMA,
    Compiling,
    Json,
    Nothing,
    Unfollowable,
    size_of,
    written,
)
from modelry.gateway.grammars.gbnf import (
    NOTHING,
    Literal,
    Node,
    Repeat,
    Sequence,
    choice,
    sequence,
)

KEY_CHARACTERS = 40
"""Of a name that a schema leaves open."""

_Members = list[tuple[Node, bool]]
"""What each is, and whether it is required."""


def object_of(compiling: Compiling, schema: Mapping[str, Json], path: str, depth: int) -> Node:
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, Mapping):
        raise Unfollowable(f"{path}/properties", "'properties' is an object")
    if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
        raise Unfollowable(f"{path}/required", "'required' is a list of names")
    for word in ("dependentRequired", "dependentSchemas", "dependencies"):
        if schema.get(word):
            compiling.leave_out(word, path)
    more = _open(schema, "additionalProperties", "unevaluatedProperties")
    if properties and schema.get("patternProperties"):
        compiling.leave_out("patternProperties", path, "beside 'properties' cannot be followed")
    missing = [name for name in required if name not in properties]
    if missing and more is False:
        raise Nothing(f"{path}/required", f"'{missing[0]}' is required, and not allowed")
    if not properties and not required:
        return _map(compiling, schema, path, depth)
    members: _Members = []
    must = frozenset(required)
    for name, said in {**properties, **dict.fromkeys(missing, more)}.items():
        needed = name in must
        where = f"{path}/properties/{name.replace('~', '~0').replace('/', '~1')}"
        try:
            value = compiling.value(said, where, depth + 1)
        except Nothing:
            if needed:
                raise
            continue
        members.append((sequence(written(name), COLON, value), needed))
    return sequence("{", _some(compiling, _sized(compiling, members, schema, path)), "}")


def _sized(
    compiling: Compiling, members: _Members, schema: Mapping[str, Json], path: str
) -> _Members:
    """Those that may be, where an object says how many there are to be."""
    low, high = size_of(schema, "minProperties", "maxProperties", path)
    must = sum(needed for _, needed in members)
    if low > len(members) or (high is not None and must > high):
        raise Nothing(path, "it has not the number of members it asks for")
    if low > must and low == len(members):
        return [(node, True) for node, _ in members]
    if low > must:
        compiling.leave_out("minProperties", path)
    if high is not None and high < len(members):
        return [(node, True) for node, needed in members if needed]
    return members


def _some(compiling: Compiling, members: _Members) -> Node:
    """Those that are required, and any of the others, in order and with commas between."""
    # From the last to the first: what may follow when something stands before it, and when
    # nothing does.
    after: Node = NOTHING
    first: Node = NOTHING
    for node, needed in reversed(members):
        following = sequence(COMMA, node, after)
        begun = sequence(node, after)
        first = begun if needed else choice((begun, first))
        after = compiling.add(following if needed else choice((following, after)), "more")
        first = compiling.add(first, "first")
    return first


def _open(schema: Mapping[str, Json], word: str, otherwise: str) -> Json:
    """What is valid of what has no schema of its own."""
    return schema.get(word, schema.get(otherwise, True))


def _map(compiling: Compiling, schema: Mapping[str, Json], path: str, depth: int) -> Node:
    """An object of any names."""
    more = _open(schema, "additionalProperties", "unevaluatedProperties")
    patterns = schema.get("patternProperties", {})
    key: Node = strings.quoted(Repeat(strings.CHARACTER, 1, KEY_CHARACTERS))
    if isinstance(patterns, Mapping) and patterns:
        pattern, more = next(iter(patterns.items()))
        key = scalars.pattern_of(compiling, pattern, (0, None), f"{path}/patternProperties")
        if len(patterns) > 1:
            why = "with several patterns cannot be followed"
            compiling.leave_out("patternProperties", path, why)
        if schema.get("propertyNames", True) is not True:
            why = "beside 'patternProperties' cannot be followed"
            compiling.leave_out("propertyNames", path, why)
    elif isinstance(schema.get("propertyNames"), Mapping):
        names = {"type": "string", **schema["propertyNames"]}
        key = compiling.value(names, f"{path}/propertyNames", depth + 1)
    low, high = size_of(schema, "minProperties", "maxProperties", path)
    if more is False or high == 0:
        if low:
            raise Nothing(path, "it has not the number of members it asks for")
        return Literal("{}")
    if low > 1:
        # Two members could have one name.
        compiling.leave_out("minProperties", path, "above 1 cannot be followed in a map")
    try:
        value = compiling.value(more, f"{path}/additionalProperties", depth + 1)
    except Nothing:
        if low:
            raise
        return Literal("{}")
    member = compiling.add(sequence(key, COLON, value), "member")
    return compiling.items("{", member, low, high, "}")


def array_of(compiling: Compiling, schema: Mapping[str, Json], path: str, depth: int) -> Node:
    first = schema.get("prefixItems", [])
    rest = _open(schema, "items", "unevaluatedItems")
    if isinstance(rest, list):
        # As it was written before 2020.
        first, rest = rest, schema.get("additionalItems", True)
    low, high = size_of(schema, "minItems", "maxItems", path)
    for word in ("contains", "minContains", "maxContains"):
        if word in schema:
            compiling.leave_out(word, path)
    if schema.get("uniqueItems") is True and (high is None or high > 1):
        return _unique(compiling, schema, rest, path, depth)
    if first:
        return _tuple(compiling, first, (low, high), path, depth)
    if rest is False or high == 0:
        if low:
            raise Nothing(path, "it has not the number of items it asks for")
        return Literal("[]")
    try:
        item = compiling.value(rest, f"{path}/items", depth + 1)
    except Nothing:
        if low:
            raise
        return Literal("[]")
    return compiling.items("[", item, low, high, "]")


def _tuple(
    compiling: Compiling, first: Json, size: tuple[int, int | None], path: str, depth: int
) -> Node:
    """All of the items that have schemas of their own, and no others."""
    if not isinstance(first, list):
        raise Unfollowable(f"{path}/prefixItems", "'prefixItems' is a list of schemas")
    low, high = size
    if low > len(first) or (high is not None and high < len(first)):
        why = "that is not the number of 'prefixItems' cannot be followed"
        compiling.leave_out("minItems", path, why)
    parts: list[Node] = []
    for at, each in enumerate(first):
        parts += [COMMA, compiling.value(each, f"{path}/prefixItems/{at}", depth + 1)]
    return Sequence((Literal("["), *parts[1:], Literal("]")))


def _unique(
    compiling: Compiling, schema: Mapping[str, Json], items: Json, path: str, depth: int
) -> Node:
    """Items that all differ: of a list of values any, in that list's order."""
    low, high = size_of(schema, "minItems", "maxItems", path)
    seen = compiling.seen_through(items)
    values = seen.get("enum") if isinstance(seen, Mapping) else None
    if not isinstance(values, list) or low > 1 or (high is not None and high < len(values)):
        compiling.leave_out("uniqueItems", path)
        loosened = {word: said for word, said in schema.items() if word != "uniqueItems"}
        return array_of(compiling, loosened, path, depth)
    nodes = [Literal(each) for each in dict.fromkeys(written(each) for each in values)]
    if not low:
        return sequence("[", _some(compiling, [(node, False) for node in nodes]), "]")
    of: list[Node] = []
    after: Node = NOTHING
    for node in reversed(nodes):
        of.append(sequence(node, after))
        after = compiling.add(choice((sequence(COMMA, node, after), after)), "more")
    return sequence("[", choice(of), "]")
