"""A text area that shows what a condition would do while one types it, and that adds it to conf.json."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import ipywidgets

from regdata.config import Config
from regdata.errors import ConditionError, RegdataError
from regdata.inventory.inventory import Inventory
from regdata.notebook import preview_views
from regdata.notebook.confedit import add_condition
from regdata.planning.bench import workbench
from regdata.planning.previews import EXAMPLE, ORDERS, Preview, preview
from regdata.show.blocks import Line, Tone

T = TypeVar("T")

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
        self.order = ipywidgets.Dropdown(options=list(ORDERS), description="list tags by")
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
        self.box = ipywidgets.VBox(
            [self.text, ipywidgets.HBox([self.name, self.replace, self.button]), self.saved, self.order, self.output]
        )
        self.text.observe(self._type, "value")
        self.order.observe(lambda _: self._show(self._shown), "value")
        self.button.on_click(lambda _: self._later(self._add()))
        self._show(self._shown)

    def _type(self, change: dict[str, Any]) -> None:
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
        html = preview_views.preview(found, self.order.value).html if found.condition.strip() else ""
        # JupyterLab's class for what a cell shows: the widget's own is made for a single line.
        self.output.value = f'<div class="jp-RenderedHTMLCommon" style="line-height:1.4;padding:0">{html}</div>'

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
        return bundle | {"text/plain": str(self._shown)}


def editor(inventory: Inventory, config: Config, condition: str = EXAMPLE) -> Editor:
    """A text area for conditions, with ``condition`` in it; it can add what is typed to ``config``'s file."""
    return Editor(inventory, config, condition or EXAMPLE)
