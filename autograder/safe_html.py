"""Student text on a page: what nbconvert makes of it, less everything that could act.

nbconvert's sanitiser covers outputs only; nbgrader's templates put Markdown into the page as it is. The filters here
take the place of nbconvert's, by name, in nbgrader_config.py: for the feedback pages and for formgrader, which an
instructor opens while logged in. What remains is an allow-list: no scripts, no styles, no forms, no ids or classes that
the page's own scripts look for, no address but a web page's or a mail's, and no picture but one in the text itself.
"""

from __future__ import annotations

import functools
import html
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import bleach  # type: ignore[import-untyped]
from bleach.html5lib_shim import Filter  # type: ignore[import-untyped]
from jinja2.filters import do_round
from nbconvert.exporters import HTMLExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

TAGS = frozenset({
    "a", "abbr", "b", "blockquote", "br", "code", "dd", "del", "details", "div", "dl", "dt", "em", "h1", "h2", "h3",
    "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "ol", "p", "pre", "q", "s", "samp", "small", "span",
    "strong", "sub", "summary", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul",
})  # fmt: skip
_ADDRESS = re.compile(r"(https?://|mailto:|#)", re.IGNORECASE)
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*\Z", re.IGNORECASE)
_HIGHLIGHT = re.compile(r"(\s*\b(highlight|language-[\w-]+|[a-z][a-z0-9]{0,2})(?=\s|\Z))+\Z")
# Cells of one class's pages that are remembered, up to this length: most are the released ones, the same for all.
_REMEMBERED, _LONG = 1024, 20_000
_ALIGN = re.compile(r"text-align:\s*(left|right|center)\s*;?\Z")


def clean_html(text: str) -> str:
    """The markup that is on the list, the rest without its tags."""
    cleaner = bleach.Cleaner(
        tags=TAGS, attributes=_is_allowed, protocols=("http", "https", "mailto", "data"),
        strip=True, strip_comments=True, css_sanitizer=_AsChecked(), filters=[_Dressed],
    )  # fmt: skip
    cleaned: str = cleaner.clean(str(text))
    return cleaned


class _Dressed(Filter):  # type: ignore[misc]
    """What cleaned markup gets from us.

    A picture without a description says so: a screen reader would read out its address. A table has room between its
    columns, as Bootstrap gives it, which nbgrader's pages come with.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for token in super().__iter__():
            if token["type"] in ("StartTag", "EmptyTag") and token["name"] == "img":
                token["data"].setdefault((None, "alt"), "A picture without a description")
            if token["type"] == "StartTag" and token["name"] == "table":
                token["data"] |= {(None, "class"): "table table-condensed", (None, "style"): "width: auto"}
            yield token


class _AsChecked:
    """`_is_allowed` has read the whole style; nothing is left to take out."""

    def sanitize_css(self, style: str) -> str:
        return style


def _is_allowed(tag: str, name: str, value: str) -> bool:
    if name == "title":
        return True
    if tag == "a":
        return name == "href" and bool(_ADDRESS.match(value))
    if tag == "img":
        return name == "alt" or (name == "src" and bool(_PICTURE.match(value)))
    if tag in ("td", "th"):
        return name == "style" and bool(_ALIGN.match(value))
    # The colours of code. No class of nbgrader's pages is as short.
    return tag in ("span", "div", "pre", "code") and name == "class" and bool(_HIGHLIGHT.match(value))


class _Renderer(IPythonRenderer):
    """A picture that was attached to a cell is named: attachments do not come along, and nbconvert would raise."""

    def image(self, text: str, url: str, title: str | None = None) -> str:
        if not _PICTURE.match(url):
            return f"<em>[a picture: {html.escape(text or url)[:200]}]</em>"
        return super().image(text, url, title)


def _remembered(rendered: Callable[..., str]) -> Callable[..., str]:
    """The same function of a source, which renders a source that is not long only once."""
    cached = functools.lru_cache(_REMEMBERED)(rendered)

    @functools.wraps(rendered)
    def render(source: str, *more: Any) -> str:
        return (cached if len(source) < _LONG else rendered)(source, *more)

    return render


@_remembered
def markdown2html(source: str) -> str:
    """Markdown as nbconvert renders it, cleaned. Whatever the text, a page comes out."""
    try:
        renderer = _Renderer(escape=False, exclude_anchor_links=True)
        return clean_html(MarkdownWithMath(renderer=renderer).render(source))
    except Exception:  # noqa: BLE001 - one strange cell must not cost a student the page
        return f"<pre>{html.escape(source)}</pre>"


def round_or_say(value: Any, precision: int = 0, method: str = "common") -> Any:
    """Jinja's `round`; no number, as a task without a grade has, is said in words."""
    if isinstance(value, float) and math.isnan(value):
        return "not graded yet"
    return do_round(value, precision, method)  # type: ignore[arg-type]


class Page(HTMLExporter):
    """A feedback page, in a fifth of the time: nbconvert's own class parses every page anew, to describe its pictures.

    Here the cells' own markup is complete as it comes from `clean_html`.
    """

    def from_notebook_node(self, nb: Any, resources: dict[str, Any] | None = None, **kw: Any) -> Any:
        """The page, and what nbconvert is to write beside it."""
        language = nb.metadata.get("language_info", {})
        highlight = _highlighter(language.get("pygments_lexer", language.get("name")))
        self.register_filter("highlight_code", highlight)  # type: ignore[no-untyped-call]
        return super(HTMLExporter, self).from_notebook_node(nb, resources, **kw)


@functools.cache
def _highlighter(lexer: str | None) -> Any:
    """nbconvert's filter `highlight_code`, which colours each source once."""
    colour = Highlight2HTML(pygments_lexer=lexer)  # type: ignore[no-untyped-call]
    coloured = _remembered(colour.__call__)

    def highlight(source: str, language: str | None = None, metadata: dict[str, Any] | None = None) -> str:
        magics = "magics_language" in (metadata or {})
        return str(colour(source, language, metadata) if magics else coloured(source, language))

    return highlight
