"""Fields of requests that API keys and access tokens have in common."""

import unicodedata
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, AwareDatetime, Field


def _without_control_characters(text: str) -> str:
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError("must have no line breaks or other control characters")
    return text


def _in_the_future(at: datetime) -> datetime:
    if at <= datetime.now(UTC):
        raise ValueError("must lie in the future")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie before the year 10000") from None


Name = Annotated[
    str, Field(min_length=1, max_length=100), AfterValidator(_without_control_characters)
]
Expiry: TypeAlias = Annotated[AwareDatetime, AfterValidator(_in_the_future)] | None
