"""A text area that shows what a condition would do while one types it, and that adds it to conf.json."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from typing import Any, TypeVar

import ipywidgets
import pandas as pd

from regdata.config import Config
from regdata.errors import ConditionError, RegdataError
from regdata.inventory.inventory import Inventory
from regdata.notebook import preview_views, tables
from regdata.notebook.confedit import add_condition
from regdata.notebook.live import attended
from regdata.planning.bench import workbench
from regdata.planning.previews import EXAMPLE, Preview, most_first, preview
from regdata.show.blocks import Line, Tone

T = TypeVar("T")

CHOOSE = "choose a condition …"
HINTS = 8
_LEFT = ["image_name", "tag_name", "age_days", "exclusive_size"]
ROWS = 1000  # tags, of those that free most, that are sent to the browser with each condition
_WORD = re.compile(r"[A-Za-z_]\w*$")
DELAY = 0.4  # seconds without a key, after which what was typed is read


class Editor:
    """The text area, its preview, and the name under which conf.json gets the condition; shows itself in a notebook.

    Conditions are read in a thread, so that the notebook answers meanwhile; a newer one stops what is being read.
    """

    def __init__(self, inventory: Inventory, config: Config, condition: str) -> None:
        self._inventory, self._config = inventory, config
        self._reading = ThreadPoolExecutor(max_workers=1)
        self._typed: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._newest = 0
        self._shown = preview(inventory, condition)
        wide = ipywidgets.Layout(width="100%")
        self.text = ipywidgets.Textarea(
            condition, rows=3, placeholder=f"a condition, such as {EXAMPLE}", layout=wide
        ).add_class("regdata-condition")
        self.choice = ipywidgets.Dropdown(
            options=[(CHOOSE, ""), *((name, name) for name in config.sql)], description="conf.json"
        ).add_class("regdata-choice")
        self.hints = ipywidgets.HBox(layout=ipywidgets.Layout(width="100%", flex_flow="row wrap", min_height="2.4em"))
        self.hints.add_class("regdata-hints")
        self.output = ipywidgets.HTML(layout=wide).add_class("regdata-preview")
        self.name = ipywidgets.Text(placeholder="name, such as old_builds", description="add as").add_class(
            "regdata-name"
        )
        self.replace = ipywidgets.Checkbox(description="replace", indent=False, layout=ipywidgets.Layout(width="auto"))
        self.button = ipywidgets.Button(
            description="Add to conf.json",
            icon="save",
            tooltip=str(config.path),
            layout=ipywidgets.Layout(width="auto"),
        ).add_class("regdata-add")
        self.saved = ipywidgets.HTML(layout=wide).add_class("regdata-saved")
        self.table = tables.table(self._shown.tags.head(ROWS)) if attended() else None
        self.box = ipywidgets.VBox(
            [
                *(self.choice, self.text, self.hints),
                ipywidgets.HBox([self.name, self.replace, self.button]),
                *(self.saved, self.output),
                *((self.table,) if self.table else ()),
            ]
        )
        self.choice.observe(self._choose, "value")
        self.text.observe(self._type, "value")
        self.button.on_click(lambda _: self._later(self._add()))
        self._show(self._shown)

    @property
    def condition(self) -> str:
        """What is typed, as it was last read."""
        return self._shown.condition

    @property
    def tags(self) -> pd.DataFrame:
        """The tags that it selects; see Preview.tags."""
        return self._shown.tags

    @property
    def left(self) -> pd.DataFrame:
        """image_name, tag_name, age_days, exclusive_size: the tags that it does not select, those that would free most
        first."""
        images, selected = self._inventory.images, self._shown.plan.selected if self._shown.plan else ()
        return most_first(images.loc[~images["id"].isin(list(selected)), _LEFT])

    def _choose(self, change: dict[str, Any]) -> None:
        """A condition of conf.json, to be looked at or changed."""
        if name := change["new"]:
            self.text.value, self.name.value = self._config.sql[name], name

    def _hint(self) -> None:
        """A button for each column that the word being typed may become."""
        words = completions(self.text.value, self._inventory.images.columns)
        buttons = [
            ipywidgets.Button(description=word, layout=ipywidgets.Layout(width="auto"), button_style="info")
            for word in words
        ]
        for button in buttons:
            button.on_click(lambda pressed: self._complete(pressed.description))
        self.hints.children = buttons

    def _complete(self, column: str) -> None:
        self.text.value = f"{_WORD.sub('', self.text.value)}{column} "

    def _type(self, change: dict[str, Any]) -> None:
        self._hint()
        if self._typed:
            self._typed.cancel()
        loop = asyncio.get_running_loop()
        self._typed = loop.call_later(DELAY, lambda: self._later(self._read(change["new"])))

    async def _read(self, condition: str) -> None:
        """Shows what ``condition`` would do, unless another one came meanwhile."""
        self._newest += 1
        mine = self._newest
        workbench(self._inventory).interrupt()
        found = await self._aside(lambda: preview(self._inventory, condition) if mine == self._newest else None)
        if found and mine == self._newest:
            self._show(found)
            self.saved.value = ""

    def _show(self, found: Preview) -> None:
        self._shown = found
        html = preview_views.preview(found, tags=not self.table).html if found.condition.strip() else ""
        # JupyterLab's class for what a cell shows: the widget's own is made for a single line.
        self.output.value = f'<div class="jp-RenderedHTMLCommon" style="line-height:1.4;padding:0">{html}</div>'
        if self.table:
            tables.show_instead(self.table, found.tags.head(ROWS))

    async def _add(self) -> None:
        """Adds what is typed to conf.json, if it can be read."""
        name, condition = self.name.value.strip(), self.text.value.strip()
        if self._typed:
            self._typed.cancel()  # it would stop what is read here
        found = await self._aside(lambda: preview(self._inventory, condition))
        try:
            if found.error:
                raise ConditionError(found.error)
            add_condition(self._config.path, name, condition, replace=self.replace.value)
        except RegdataError as error:
            self._say("✗ Not added: ", str(error), "bad")
        else:
            self._show(found)
            self._say(f"✓ {name}", f" is in {self._config.path}.", "good")

    def _say(self, strong: str, rest: str, tone: Tone) -> None:
        self.saved.value = Line(strong, rest, tone).html()

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # asyncio itself would let it be collected while it waits
        task.add_done_callback(self._tasks.discard)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = self.box._repr_mimebundle_(**options)
        shown = {"text/plain": str(self._shown), "text/html": self._shown._repr_html_()}
        return bundle | shown if attended() else shown


def completions(typed: str, columns: Collection[str]) -> list[str]:
    """The columns that the last word of what was typed may be the begin of; or those that it resembles."""
    word = _WORD.search(typed)
    if not word or word[0] in columns:
        return []
    begun = [column for column in columns if column.startswith(word[0].lower())]
    return begun[:HINTS] or get_close_matches(word[0].lower(), columns, HINTS)


def editor(inventory: Inventory, config: Config, condition: str = EXAMPLE) -> Editor:
    """A text area for conditions, with ``condition`` in it; it can add what is typed to ``config``'s file."""
    return Editor(inventory, config, condition or EXAMPLE)
