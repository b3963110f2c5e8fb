"""What a check finds."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """A verdict, what was found in words with its numbers, and what to do about it."""

    verdict: str
    words: str
    remedy: str = ""


def passed(words: str) -> Finding:
    """Return that nothing was found that would make numbers wrong, and what was."""
    return Finding("pass", words)


def warned(words: str, remedy: str) -> Finding:
    """Return something that a user should know before reading numbers."""
    return Finding("warning", words, remedy)


def failed(words: str, remedy: str) -> Finding:
    """Return something that makes numbers wrong."""
    return Finding("fail", words, remedy)


def listed(names: list[str], most: int = 3) -> str:
    """Return the first few of ``names``, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, thing: str) -> str:
    """Return a number of things in words, such as "1 batch" or "3 batches"."""
    plural = thing if number == 1 else f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return f"{number:,} {thing}es" if number != 1 and thing.endswith(("ch", "s")) else f"{number:,} {plural}"


def share(error: float) -> str:
    """Return a relative error in words: percent of what is 0.1% at least, such as "2.3%", else "4.1e-06"."""
    return f"{error:.1%}" if error >= 1e-3 else f"{error:.1e}"


def within(error: float) -> str:
    """Return how well two things agree, such as "to 3e-08"."""
    return f"to {error:.0e}" if error else "to the last digit"
