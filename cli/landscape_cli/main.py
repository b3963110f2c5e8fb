"""``landscape``: the entry point."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the console script calls this."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # here, because loading torch takes long enough to be stopped by Ctrl-C
        from landscape_cli import commands, demo  # noqa: F401  registers every command
        from landscape_cli.shell import INTERRUPTED, app, settings
    except KeyboardInterrupt:
        print("landscape: stopped by Ctrl-C before it began.", file=sys.stderr)
        sys.exit(130)
    settings.debug = "--debug" in given
    try:
        app(args=[argument for argument in given if argument != "--debug"], prog_name="landscape")
    except KeyboardInterrupt:
        if settings.debug:
            raise
        print("landscape: stopped by Ctrl-C.", file=sys.stderr)
        sys.exit(INTERRUPTED)
