"""An executed notebook as one HTML page: results without code, no scripts, no links out."""

import logging
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from papermill.execute import ERROR_MARKER_TAG
from traitlets.config import Config as Traits

from regdata import errors
from regdata.show.blocks import Document, Line
from regdata.show.page import page

NOTHING = {"text/plain": ""}  # what said how far a cell was
BOX = "box"  # the tag of the cell that shows what a report opens with


def export_html(notebook_path: Path, box: Document | None = None) -> Path:
    """Writes `<name>.html` beside the notebook and returns its path.

    ``box``: what its cell with the tag `box` shows instead of what it showed: a run that was killed could not say so.
    Whatever else is wrong with the notebook is a note on the page. Raises OSError when the page can't be written.
    """
    try:
        body = _body(notebook_path, box)
    except Exception as error:
        note = Line("Note: ", f"{notebook_path.name} can't be shown here: {type(error).__name__}: {error}", "note")
        body = Document((*(box.blocks if box else ()), note)).html
    written = notebook_path.with_suffix(".html")
    title = f"{notebook_path.stem} {notebook_path.absolute().parent.name}"
    written.write_text(page(title, body), encoding="utf-8", errors="replace")
    return written


def _body(notebook_path: Path, box: Document | None) -> str:
    quiet = logging.getLogger("regdata.command.html")  # nbconvert would remark on images without a text
    quiet.setLevel(logging.ERROR)
    notebook = nbformat.read(notebook_path, as_version=4)  # type: ignore[no-untyped-call]
    if box:
        _open_with(notebook, box)
        _say_once(notebook, box)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data") != NOTHING]
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        config=Traits({"TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": [ERROR_MARKER_TAG]}}),
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=True,
        log=quiet,
    )
    body: str = exporter.from_notebook_node(notebook)[0]
    return body


def _say_once(notebook: nbformat.NotebookNode, box: Document) -> None:
    """What the box says is wrong is not said once more by the cell that failed: that one shows where it was."""
    said = " ".join(box.text.split())
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        ours = output.output_type == "error" and hasattr(errors, output.ename)
        # The last cell joins what went wrong by "; ".
        if ours and " ".join(output.evalue.partition("; ")[0].split()) in said:
            output.traceback = [f"{output.ename}: see above"]


def _open_with(notebook: nbformat.NotebookNode, box: Document) -> None:
    shown = nbformat.v4.new_output("display_data", {"text/html": box.html, "text/plain": box.text})  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        if BOX in cell.metadata.get("tags", []):
            cell.outputs = [shown]
