"""What every caption says: on which data, in which mode, and what is wrong with the result."""

from __future__ import annotations

from typing import Any

from landscape.results.base import Result

_MODES = {
    "eval": "with the network in evaluation mode",
    "train": "with the network in training mode (batch statistics and fixed dropout masks)",
}


def where_from(result: Result) -> str:
    """Return one sentence on data and mode, as far as the provenance knows them."""
    facts = result.provenance
    data: Any = facts.get("data")
    data = data if isinstance(data, dict) else {}
    parts = []
    if data.get("examples") is not None:
        mark = f" (data fingerprint {str(data['fingerprint'])[:12]})" if data.get("fingerprint") else ""
        parts.append(f"on {int(data['examples']):,} examples{mark}")
    if facts.get("mode"):
        parts.append(_MODES.get(str(facts["mode"]), f"in {facts['mode']} mode"))
    if facts.get("dtype"):
        parts.append(f"in {str(facts['dtype']).removeprefix('torch.')}")
    return f"Computed {', '.join(parts)}." if parts else ""


def standing(result: Result) -> str:
    """Return what is wrong with the result, in words; nothing when all is well."""
    if result.ok:
        return ""
    message = f": {result.message.rstrip('.')}" if result.message else ""
    return f"Status: {result.status}{message}."
