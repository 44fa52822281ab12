"""What a cell shows while it runs: a line of progress, and notes beside its result."""

from __future__ import annotations

from IPython.display import DisplayHandle, Markdown, display


class Progress:
    """One line in the cell, replaced as the run goes on, so that the report keeps one."""

    def __init__(self) -> None:
        self._line: DisplayHandle | None = None

    def __call__(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` manifests are deleted."""
        said = Markdown(f"{done:,} of {total:,} manifests deleted")
        if self._line:
            self._line.update(said)
        else:
            self._line = display(said, display_id=True)


def note(said: str) -> None:
    """Shows a remark."""
    display(Markdown(f"Note: {said}"))
