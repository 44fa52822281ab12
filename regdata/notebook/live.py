"""What a cell shows while it runs: a line of progress, notes beside its result; and whether somebody is there to be
asked."""

from __future__ import annotations

from IPython import get_ipython
from IPython.display import DisplayHandle, Markdown, display

from regdata.show.blocks import Document


class Progress:
    """One line in the cell, replaced as the run goes on, so that the report keeps one."""

    def __init__(self, what: str = "manifests deleted") -> None:
        self.what = what
        self._line: DisplayHandle | None = None

    def __call__(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` are deleted, or what else there is to be done."""
        said = Markdown(f"{done:,} of {total:,} {self.what}")
        if self._line:
            self._line.update(said)
        else:
            self._line = display(said, display_id=True)


class Ticker:
    """A line in the cell that runs, which says how far it is, and is gone when the cell has run."""

    def __init__(self) -> None:
        self._line: DisplayHandle | None = None

    def __call__(self, said: str) -> None:
        """Shows this; an empty text ends the line."""
        shown = {"text/plain": f"{said} …" if said else ""}
        if self._line:
            self._line.update(shown, raw=True)
        else:
            self._line = display(shown, raw=True, display_id=True)
        if not said:
            self._line = None


class Box:
    """Where the cell that makes it stands: what is said last takes the place of what was said before, from whichever
    cell it comes. So a report can open with what is known at its end."""

    def __init__(self) -> None:
        self._shown: DisplayHandle | None = None

    def __call__(self, said: Document) -> None:
        if self._shown:
            self._shown.update(said)
        else:
            self._shown = display(said, display_id=True)


def attended() -> bool:
    """Whether somebody sits in front of this notebook. papermill and nbconvert take no questions from a kernel
    (allow_stdin of Jupyter's execute_request); JupyterLab does."""
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent().get("content", {}).get("allow_stdin"))


def ask(question: str) -> str:
    """What somebody answers."""
    return input(question).strip()


def note(said: str) -> None:
    """Shows a remark."""
    display(Markdown(f"Note: {said}"))
