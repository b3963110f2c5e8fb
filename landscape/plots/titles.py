"""What stands above a figure: what it shows, and of which network, data and mode."""

from __future__ import annotations

from typing import Any

from landscape.results.base import Result

SEPARATOR = " · "


def origin(result: Result) -> list[str]:
    """Return the facts of ``result``'s provenance that belong in every title, as far as they are known."""
    facts = result.provenance
    found = []
    if facts.get("model"):
        found.append(str(facts["model"]))
    if facts.get("operator"):
        found.append(str(facts["operator"]))
    if facts.get("mode"):
        found.append(f"{facts['mode']} mode")
    examples = _inside(facts, "data", "examples")
    if examples is not None:
        found.append(f"{int(examples):,} examples")
    count = _inside(facts, "parameters", "count")
    if count is not None:
        found.append(f"{int(count):,} parameters")
    if facts.get("dtype"):
        found.append(str(facts["dtype"]).removeprefix("torch."))
    return found


def heading(result: Result, what: str, title: str | None = None) -> tuple[str, str]:
    """Return the title and the line below it; a status that is not good stands there too."""
    below = origin(result)
    if not result.ok:
        below = [result.status.upper(), *below]
    return title if title is not None else what, SEPARATOR.join(below)


def shorten(name: str, most: int = 34) -> str:
    """Return ``name`` with its middle left out where it is too long for a label."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[-(most - 1 - head) :]}"


def wrap(subtitle: str, inches: float) -> list[str]:
    """Break ``subtitle`` between facts into lines that fit a figure of that width."""
    most = max(20, int(inches * 12.0))
    lines: list[str] = []
    for fact in subtitle.split(SEPARATOR) if subtitle else []:
        if lines and len(lines[-1]) + len(SEPARATOR) + len(fact) <= most:
            lines[-1] += SEPARATOR + fact
        else:
            lines.append(fact)
    return lines


def _inside(facts: dict[str, Any], group: str, key: str) -> Any:
    inner = facts.get(group)
    return inner.get(key) if isinstance(inner, dict) else None
