"""A type shows itself without knowing how: views are registered by type, and loaded when one is first asked for."""

from __future__ import annotations

from functools import cache, singledispatch
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regdata.show.blocks import Document

_modules: list[str] = []


def views_in(*modules: str) -> None:
    """Names the modules that register views, so that what is shown need not import them."""
    _modules.extend(modules)


@singledispatch
def view(shown: object) -> Document:
    """What is shown of a value: for each type the function that is registered with ``@view.register``."""
    raise TypeError(f"there is no view of {type(shown).__name__}")


def document(shown: object) -> Document:
    """What is shown of ``shown``. TypeError where its type has no view."""
    _load()
    return view(shown)


@cache
def _load() -> None:
    for name in _modules:
        import_module(name)


class Shown:
    """``str()`` of it is the text of its view, a notebook shows the HTML; its own ``__repr__`` is one line that costs
    nothing."""

    def __str__(self) -> str:
        return document(self).text

    def _repr_html_(self) -> str:
        return document(self).html

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """Both, from one look: else IPython would ask for each by itself."""
        shown = document(self)
        return {"text/plain": shown.text, "text/html": shown.html}
