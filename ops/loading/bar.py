"""A bar with a note behind it, on a terminal."""

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TextColumn

_ECHO = "^C^C"


class Bar(Progress):
    """One bar on stderr, gone when it stops."""

    def __init__(self, total: int) -> None:
        columns = (BarColumn(), TextColumn("{task.fields[note]}", markup=False))
        self._terminal = Console(stderr=True)
        super().__init__(*columns, console=self._terminal, transient=True)
        self._only = self.add_task("", total=total, note="")

    def show(self, completed: int, note: str) -> None:
        """Show how much of the total is done."""
        self.update(self._only, completed=completed, note=note)

    def get_renderable(self) -> RenderableType:
        """Leave room for the terminal's echo: wrapped, it would push up a line that nobody takes away."""
        return Constrain(super().get_renderable(), self._terminal.width - len(_ECHO))
