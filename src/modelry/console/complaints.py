"""What is wrong with a form, said at the field where it is wrong."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from markupsafe import Markup
from pydantic import ValidationError

from modelry.errors import ModelryError


@dataclass(frozen=True)
class Complaints:
    """`fields`: by a field's name; `rest`: what belongs to none that the form has."""

    fields: Mapping[str, str] = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    status: int = 200

    def of(self, name: str) -> str | None:
        return self.fields.get(name)

    def attributes(self, name: str, hint: str = "", id: str = "") -> Markup:
        """Of the field's element: what describes it, its complaint first. `hint`: the id of what
        is always said of it; `id`: the element's own, where that is not its name.
        """
        wrong = name in self.fields
        named = (f"{id or name}-wrong" if wrong else "", hint)
        described = " ".join(each for each in named if each)
        invalid = Markup(' aria-invalid="true"') if wrong else Markup("")
        return invalid + (
            Markup(' aria-describedby="{}"').format(described) if described else Markup("")
        )


NONE = Complaints()


def complaints_of(
    error: ModelryError | ValidationError,
    fields: Collection[str],
    places: Mapping[str, str] | None = None,
) -> Complaints:
    """`fields`: those of the form; `places`: the field that shows a parameter of another name."""
    if isinstance(error, ModelryError):
        message = error.message.removeprefix(f"{error.param}: ")
        told = [(error.param or "", f"{message} ({error.hint})" if error.hint else message)]
        status = error.status
    else:
        status = 422
        told = [
            (".".join(str(part) for part in each["loc"]), each["msg"].removeprefix("Value error, "))
            for each in error.errors()
        ]
    found: dict[str, str] = {}
    rest: list[str] = []
    for param, message in told:
        name = (places or {}).get(param, param)
        if name in fields:
            found.setdefault(name, message)
        else:
            rest.append(f"{param}: {message}" if isinstance(error, ValidationError) else message)
    return Complaints(found, tuple(rest), status)
