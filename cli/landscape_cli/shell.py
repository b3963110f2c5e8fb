"""What every command stands on: the application, error messages, exit codes and printing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

import landscape
from landscape.errors import LandscapeError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Loss landscapes and training dynamics for PyTorch.",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

USAGE, INTERRUPTED = 2, 130


@dataclass
class Settings:
    """What holds for a whole run of the command line."""

    debug: bool = False


settings = Settings()


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register ``function`` as a command whose errors end as one sentence and an exit code."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except LandscapeError as error:
            if settings.debug:
                raise
            where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
            err.print(f"[red]landscape:[/red] {plain(str(error) + where)}")
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            if settings.debug:
                raise
            err.print("[yellow]landscape:[/yellow] stopped by Ctrl-C.")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if settings.debug:
                raise
            err.print(
                f"[red]landscape:[/red] an error inside landscape or the code it called, "
                f"{type(error).__name__}: {plain(str(error))}; run again with --debug for the traceback."
            )
            raise typer.Exit(1) from None

    return app.command()(guarded)


def plain(text: str) -> str:
    """Return ``text`` with the brackets that rich would read as markup escaped."""
    return text.replace("[", r"\[")


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"landscape {landscape.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Loss landscapes and training dynamics for PyTorch."""
