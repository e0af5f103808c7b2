"""Programs in colours, made on the server: markup with classes that the stylesheet knows."""

from functools import lru_cache

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import BashLexer, JavascriptLexer, JsonLexer, PythonLexer

_FORMATTER = HtmlFormatter(nowrap=True)
_LEXERS: dict[str, Lexer] = {
    # Whatever stands at the start or the end is the program's: what is copied is what is shown.
    "curl": BashLexer(stripnl=False, ensurenl=False),
    "python": PythonLexer(stripnl=False, ensurenl=False),
    "node": JavascriptLexer(stripnl=False, ensurenl=False),
    "json": JsonLexer(stripnl=False, ensurenl=False),
}


@lru_cache(maxsize=256)
def coloured(code: str, language: str) -> Markup:
    """`code` with its words marked by what they are, escaped. `language`: one of the examples'
    languages (`curl`, `python`, `node`) or `json`; raises `KeyError` for another.
    """
    html = highlight(code, _LEXERS[language], _FORMATTER)
    if not code.endswith("\n"):
        html = html.removesuffix("\n")  # The formatter's own.
    return Markup(html)  # noqa: S704 - it escapes
