"""How it is told who uses a model."""

import pytest

from modelry.access.principal import Principal
from modelry.catalog.uses import Use, in_words

ME = Principal("u-me", "me", operator=True)


@pytest.mark.parametrize(
    ("mine", "others", "words"),
    [
        (["a"], 0, "service a"),
        (["a", "b"], 0, "services a and b"),
        (["a", "b"], 2, "services a, b and 2 of other users"),
        ([], 1, "1 service of other users"),
    ],
)
def test_what_belongs_to_others_is_counted_and_not_named(
    mine: list[str], others: int, words: str
) -> None:
    uses = [Use(name, ME.owner_id, "v", runs=True) for name in mine]
    uses += [Use(f"secret-{number}", "u-other", "v", runs=True) for number in range(others)]
    assert in_words(uses, ME) == words
