"""Colours of the console can be told apart, in either theme."""

import re
from pathlib import Path

import pytest

from modelry import console
from modelry.console.tokens import Contrast, colours, contrast, contrasts, tokens

STYLES = Path(console.__file__).parent / "styles"


@pytest.mark.parametrize("pair", contrasts(), ids=lambda pair: f"{pair.name} on {pair.ground}")
def test_what_stands_on_a_colour_stands_out(pair: Contrast) -> None:
    assert pair.enough, f"{pair.light:.2f} in light, {pair.dark:.2f} in dark"


def test_contrasts_are_as_the_standard_has_them() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#3651d4", "#3651d4") == 1


def test_every_token_that_styles_use_is_one() -> None:
    used = {
        name
        for path in STYLES.glob("*.css")
        for name in re.findall(r"var\(--([a-z0-9-]+)", path.read_text())
    }
    # A state's own tone, which it sets itself.
    assert used - {"tone"} == used & tokens().keys()


def test_every_colour_has_a_contrast_that_is_held() -> None:
    held = {name for pair in contrasts() for name in (pair.name, pair.ground)}
    assert colours().keys() - held == {"line"}, "a line that means nothing needs none"
