"""``landscape demo``: from nothing to the report of a real training run."""

from landscape_cli.demo.command import demo

__all__ = ["demo"]
