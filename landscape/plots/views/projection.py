"""A training path in a plane, beside what the plane does not show."""

from __future__ import annotations

from landscape.errors import InputError
from landscape.plots.scales import Axis
from landscape.plots.sheets import Curve, Curves, Path, Sheet
from landscape.plots.style import BLUE, VERMILLION, check_size
from landscape.plots.titles import heading
from landscape.results import Projection


def projection(result: Projection, *, title: str | None = None, size: tuple[float, float] | None = None) -> Sheet:
    """Draw the path coloured by step, and its distances from the end and from the plane."""
    data = result.dataset
    if data.sizes["axis"] < 2:
        raise InputError(
            "a path is drawn in a plane", got=f"{data.sizes['axis']} direction", fix="project onto two directions"
        )
    points, steps = data["coordinates"].to_numpy(), data["step"].to_numpy()
    names = [str(name) for name in data["axis"].to_numpy()]
    plane = Curves(Axis(names[0]), Axis(names[1]), path=Path(points[:, 0], points[:, 1], steps), title="In the plane")
    marker = "circle" if len(steps) <= 60 else ""
    hidden = Curves(
        Axis("step"),
        Axis("distance in parameter space"),
        [
            Curve(steps, data["displacement"].to_numpy(), "from the final point", BLUE, marker=marker),
            Curve(steps, data["off_plane"].to_numpy(), "from the plane", VERMILLION, marker=marker),
        ],
        title=f"Outside the plane: {result.hidden_share:.1%} (a random walk: {result.random_walk_share:.1%})",
    )
    what = f"Training path of {len(steps)} snapshot{'s' if len(steps) > 1 else ''}"
    return Sheet(*heading(result, what, title), [[plane, hidden]], check_size(size, (11.5, 4.9)), [1.15, 1.0])
