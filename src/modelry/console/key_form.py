"""The form of an API key: what was typed, what it asks for, and what is wrong with it.

What it asks for is checked by the management API's own models; here is only which field a
refusal belongs to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.datastructures import FormData

from modelry.access.endpoints import KeyLimits, KeyUpdate, KeyView, NewKey
from modelry.console.expiry import CHOICES, expires_at

LIMITS = tuple(KeyLimits.model_fields)
_COMPLAINTS = {
    "name": "keys.wrong_name",
    "expires_at": "keys.wrong_expires_at",
    "services": "keys.wrong_services",
}
_TYPED_MAX = 100_000
_Asked = TypeVar("_Asked", NewKey, KeyUpdate)


@dataclass
class KeyForm:
    """`expiry`: one of `CHOICES`, with `expires_on`, or `keep`: as it is.

    `patterns`: further access paths and globs, a line each. `complaints`: field → the name of the
    text that says what is wrong with it.
    """

    name: str = ""
    everything: bool = True
    services: Sequence[str] = ()
    patterns: str = ""
    expiry: str = "never"
    expires_on: str = ""
    limits: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(LIMITS, ""))
    strict: bool = False
    complaints: dict[str, str] = field(default_factory=dict)

    def new(self, now: datetime) -> NewKey | None:
        """The key that is asked for; None where something is wrong, and `complaints` says what."""
        return self._checked(NewKey, self._asked(now))

    def update(self, now: datetime) -> KeyUpdate | None:
        """As `new`, of a key that there is: each field that the form has."""
        return self._checked(KeyUpdate, self._asked(now))

    def _asked(self, now: datetime) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "name": self.name,
            "services": None if self.everything else [*self.services, *self.patterns.split()],
            "limits": {name: _number(text) for name, text in self.limits.items()},
            "strict": self.strict,
        }
        if self.expiry != "keep":
            asked["expires_at"] = expires_at(self.expiry, self.expires_on, now)
        return asked

    def _checked(self, model: type[_Asked], asked: dict[str, Any]) -> _Asked | None:
        try:
            return model.model_validate(asked)
        except ValidationError as error:
            for each in error.errors():
                name = next(str(part) for part in each["loc"] if part != "limits")
                self.complaints[name] = _COMPLAINTS.get(name, "keys.wrong_limit")
            return None


def typed(form: FormData) -> KeyForm:
    """What a browser sent. Whatever it is, it is shown again as text."""

    def text(name: str) -> str:
        value = form.get(name)
        return value[:_TYPED_MAX].strip() if isinstance(value, str) else ""

    expiry = text("expiry")
    return KeyForm(
        name=text("name"),
        everything=text("scope") != "chosen",
        services=[each for each in form.getlist("services") if isinstance(each, str)],
        patterns=text("patterns"),
        expiry=expiry if expiry in {*CHOICES, "keep"} else "never",
        expires_on=text("expires_on"),
        limits={name: text(name) for name in LIMITS},
        strict=text("strict") == "on",
    )


def form_of(key: KeyView, own_paths: Sequence[str]) -> KeyForm:
    """The form of a key that there is. `own_paths`: the services that it offers by themselves."""
    scope = key.services or []
    limits = {} if key.limits is None else key.limits.model_dump()
    return KeyForm(
        name=key.name,
        everything=key.services is None,
        services=[path for path in scope if path in own_paths],
        patterns="\n".join(path for path in scope if path not in own_paths),
        expiry="never" if key.expires_at is None else "keep",
        limits={name: str(limits.get(name) or "") for name in LIMITS},
        strict=key.strict,
    )


def _number(text: str) -> int | str | None:
    """People write thousands apart; what is no number is refused as it stands."""
    if not text:
        return None
    plain = text.replace(",", "").replace(" ", "").replace("_", "")
    return int(plain) if plain.isascii() and plain.isdigit() and len(plain) < 20 else text
