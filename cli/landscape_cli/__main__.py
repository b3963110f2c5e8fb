"""``python -m landscape_cli`` is ``landscape``."""

from landscape_cli.main import main

main()
