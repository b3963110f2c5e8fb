"""``landscape``: the entry point that knows every command."""

from __future__ import annotations

import sys

from landscape_cli import commands as commands
from landscape_cli.demo import demo as demo
from landscape_cli.shell import app, settings


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the console script calls this."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    settings.debug = "--debug" in given
    app(args=[argument for argument in given if argument != "--debug"], prog_name="landscape")
