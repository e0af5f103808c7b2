"""What a check of weights found, in words."""

from collections.abc import Sequence

from modelry.access.principal import Principal
from modelry.catalog.cards import Variant
from modelry.catalog.checks import Checked, Checking
from modelry.catalog.uses import Use, in_words
from modelry.catalog.verify import Report
from modelry.catalog.views import CheckView, FindingView, progress_view
from modelry.errors import NotFound

_NAMED = 5


def check_view(
    variant: Variant,
    state: Checking | Checked | None,
    uses: Sequence[Use],
    principal: Principal,
) -> CheckView:
    """Raises `NotFound` where there was no check."""
    if state is None:
        raise NotFound(
            "its weights were not verified since Modelry was started",
            hint="`modelry models verify` does it",
            code="not_verified",
        )
    if isinstance(state, Checking):
        return CheckView(
            variant=variant.name,
            state="checking",
            progress=progress_view(state.progress),
            files=[],
            message="its files are being read",
            checked_at=None,
        )
    found = state.found
    if isinstance(found, str):
        return CheckView(
            variant=variant.name,
            state="failed",
            progress=None,
            files=[],
            message=f"its files could not be read: {found}",
            checked_at=state.at,
        )
    return CheckView(
        variant=variant.name,
        state="damaged" if found.findings else "whole",
        progress=None,
        files=[FindingView(name=each.name, found=each.damage) for each in found.findings],
        message=_message(found, uses, principal),
        checked_at=state.at,
    )


def _message(report: Report, uses: Sequence[Use], principal: Principal) -> str:
    if not report.findings:
        plural = "s are" if report.files > 1 else " is"
        return f"{report.files} file{plural} as fetched"
    names = [f"{each.name} is {each.damage}" for each in report.findings[:_NAMED]]
    more = len(report.findings) - len(names)
    told = [", ".join(names) + (f", and {more} more" if more else "")]
    if any(each.damage == "damaged" for each in report.findings):
        told.append("what is damaged was moved out of the way, and the next fetch brings it again")
    if any(each.damage == "changed" for each in report.findings):
        told.append("what is used in place was left as it is")
    if uses:
        verb = "uses it" if len(uses) == 1 else "use it"
        told.append(f"{in_words(uses, principal)} {verb}: stop and start to run on whole files")
    return "; ".join(told)
