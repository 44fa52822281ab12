"""Frames in a notebook: where somebody sits in front, tables to be sorted, searched, and taken along as CSV or for
Excel; as rows elsewhere."""

from __future__ import annotations

from typing import Any

import pandas as pd
from IPython import get_ipython
from itables import JavascriptFunction
from itables.widget import ITable

from regdata.notebook.live import attended
from regdata.show.blocks import Document, Fold, frame, is_size

PAGE = 10  # rows at a time
BYTES = "64MB"  # of a frame that is sent to the browser; of a larger one a sample
DATES = ("tag_timestamp", "created", "pushed", "last_pulled", "blob_date")  # UTC epoch seconds
# As regdata.show.words.size; what is sorted and taken along are numbers.
SIZE = JavascriptFunction("""function (data, type) {
    if (type !== 'display') { return data; }
    if (data === null || data === '' || isNaN(data)) { return ''; }
    const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
    let place = 0, value = +data;
    while (Math.abs(value) >= 999.5 && place < 5) { value /= 1000; place += 1; }
    return +value.toPrecision(3) + ' ' + units[place];
}""")
# A whole number that may be unknown comes as one with a point.
WHOLE = JavascriptFunction("""function (data, type) {
    if (type !== 'display') { return data; }
    return data === null || data === '' || isNaN(data) ? '' : Math.round(+data) + '';
}""")


def interactive() -> None:
    """From here on, every DataFrame that a cell shows is such a table."""
    if shell := get_ipython():
        shell.display_formatter.mimebundle_formatter.for_type(pd.DataFrame, bundle)


class Behind:
    """The frame that a chart was drawn from."""

    def __init__(self, shown: pd.DataFrame) -> None:
        self.frame = shown

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self.frame.empty:  # the chart has said so
            return {"text/plain": ""}
        rows = Document((Fold(f"The table behind it, {len(self.frame):,} rows", frame(readable(self.frame))),))
        return bundle(self.frame) | {"text/plain": "", "text/html": rows.html}


def bundle(shown: pd.DataFrame, **_: Any) -> dict[str, Any]:
    """What a cell shows of a frame."""
    said: dict[str, Any] = {"text/plain": repr(shown), "text/html": frame(readable(shown)).html}
    return said | _table(shown) if attended() and len(shown) else said


def readable(shown: pd.DataFrame) -> pd.DataFrame:
    """With dates in words (UTC), and numbers of two digits behind the point."""
    dates = {
        name: pd.to_datetime(shown[name], unit="s", errors="coerce").dt.strftime("%Y-%m-%d %H:%M").fillna("")
        for name in shown.columns.intersection(list(DATES))
        if pd.api.types.is_numeric_dtype(shown[name])
    }
    return shown.assign(**dates).round(2)


def _table(shown: pd.DataFrame) -> dict[str, Any]:
    said = table(shown)._repr_mimebundle_() or ({}, {})
    return {kind: data for kind, data in said[0].items() if kind.startswith("application/")}


def table(shown: pd.DataFrame) -> ITable:
    """A widget to sort, to search, and to take the rows from."""
    told, options = _told(shown)
    return ITable(told, **options)


def show_instead(widget: ITable, shown: pd.DataFrame) -> None:
    """Other rows in the same place."""
    told, options = _told(shown)
    widget.update(told, **options)


def _told(shown: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What is sent of a frame, and how it is shown."""
    told = readable(shown)
    sizes = [place for place, name in enumerate(told.columns) if is_size(str(name))]
    unknown = [name for name in told.columns if pd.api.types.is_integer_dtype(told[name]) and told[name].hasnans]
    whole = [place for place, name in enumerate(told.columns) if name in unknown and place not in sizes]
    return told.astype(dict.fromkeys(unknown, "float64")), {
        "columnDefs": [{"targets": sizes, "render": SIZE}, {"targets": whole, "render": WHOLE}],
        "layout": {"topStart": "buttons", "topEnd": "search", "bottomStart": "info", "bottomEnd": "paging"},
        "buttons": [{"extend": f"{kind}Html5", "exportOptions": {"orthogonal": "export"}} for kind in ("csv", "excel")],
        "pageLength": PAGE,
        "maxBytes": BYTES,
        "showIndex": False,
    }
