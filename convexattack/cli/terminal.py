"""What the commands share: errors as one sentence, lists of words, a progress bar, a console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["FEW", "console", "number", "progress", "sentences", "words"]

WIDTH = 118  # of what is printed to a file or a pipe
FEW = 20  # items that are shown one by one


@contextmanager
def sentences(out: Path | None = None) -> Iterator[None]:
    """What is wrong with an argument is one sentence and exit status 2; Ctrl-C is 130."""
    try:
        yield
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as error:
        part = None if out is None else out / "records.jsonl.part"
        kept = (
            f"; the records so far are in {part}, complete lines only"
            if part is not None and part.exists()
            else ", nothing was written"
        )
        typer.echo(f"interrupted{kept}", err=True)
        raise typer.Exit(130) from error
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"convexattack: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


def words(name: str, text: str) -> list[str]:
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise ValueError(f"{name} is empty: give at least one, with commas between")
    return found


def number(name: str, word: str, cure: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise ValueError(f"{name} holds {word!r}, which is no number: give {cure}") from error


@contextmanager
def progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr, gone once all is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


def console() -> Console:
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=max(screen.width, WIDTH))
