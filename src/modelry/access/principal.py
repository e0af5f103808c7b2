"""A signed-in user, as every package sees one."""

from dataclasses import dataclass

from modelry.access.store import UserRow
from modelry.errors import PermissionDenied


@dataclass(frozen=True)
class Principal:
    """`owner_id` is the first half of the access paths of their services."""

    owner_id: str
    name: str
    operator: bool

    def require_operator(self, what: str) -> None:
        if not self.operator:
            raise PermissionDenied(f"{what} is for operators")


def principal_of(user: UserRow) -> Principal:
    return Principal(user.id, user.name, user.operator)
