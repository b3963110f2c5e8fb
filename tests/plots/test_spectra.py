"""Spectra that are awkward to draw: very large and small values, one of a thing, nothing to be sure of."""

from __future__ import annotations

import numpy as np
import pytest

from landscape.plots import caption
from landscape.plots.placement import quiet_box, reach_of
from landscape.plots.registry import view
from landscape.plots.scales import Axis, typeset
from landscape.plots.sheets import Bars, Curve, Curves
from landscape.plots.with_plotly.curves import _outline
from landscape.results import EigenResult
from tests.plots import made
from tests.plots.test_every_kind import BOTH, words


def eigenpairs(scale=1.0, residual=1e-3):
    values = scale * np.array([5.0, 3.0, 2.0, -1.0])
    return EigenResult.make(
        values, np.full(4, residual), np.ones(4, bool), np.eye(4), which="LM", tol=1e-3, matvecs=9,
        status="converged", message="", provenance=made.ORIGIN,
    )  # fmt: skip


def rough():
    """A density whose rounding is more than the lowest that is drawn, as that of a tall peak in single precision."""
    return made.density(eps=1e-4)


def upper(result):
    panel = view(result.kind)(result).rows[0][0]
    assert isinstance(panel, Curves)
    return panel


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_band_ends_where_its_curve_leaves_the_axis(count):
    result = rough() if count == 0 else made.family(rough, count)
    panel = upper(result)
    floor = panel.y.limits[0]
    for curve in panel.curves[: max(count, 1)]:
        shown = np.isfinite(curve.high)
        assert shown.any()
        assert (shown == (curve.y >= floor)).all()
        assert (np.isfinite(curve.low) == shown).all()
        _, limit = rough().bands(curve.x, atoms=False)
        assert limit[~shown].max() > floor  # it is rounding that reaches so high where there is nothing
    assert "end where their curve falls below the axis" in caption(result)


def test_a_family_shows_resolved_eigenvalues_as_one_density_does():
    alone = upper(made.density()).curves
    together = upper(made.family(made.density, 2)).curves
    assert np.array_equal(alone[0].y, together[0].y)
    for one, same in zip(alone[1:], together[2:4], strict=True):
        assert np.array_equal(one.x, same.x, equal_nan=True)
        assert np.array_equal(one.y, same.y, equal_nan=True)


def test_one_legend_names_the_members_of_both_panels():
    rows = view("family")(made.family(made.density, 3)).rows
    assert [panel.legend for (panel,) in rows] == [True, False]
    figure = made.family(made.density, 3).plot(backend="plotly")
    assert sum(bool(trace.showlegend) for trace in figure.data) == 3
    assert sum("blocks" in str(trace.hovertemplate) for trace in figure.data) == 6
    assert sum(axes.get_legend() is not None for axes in made.family(made.density, 3).plot().axes) == 1


def test_the_outline_of_a_band_has_one_piece_for_each_stretch():
    x, nan = np.arange(6.0), np.nan
    around_x, around_y = _outline(x, np.array([0, 0, nan, 0, 0, 0]), np.array([1, 1, 1, nan, 2, 2]))
    assert np.array_equal(around_x, [0, 1, 1, 0, nan, 4, 5, 5, 4, nan], equal_nan=True)
    assert np.array_equal(around_y, [0, 0, 1, 1, nan, 0, 0, 2, 2, nan], equal_nan=True)
    assert [len(part) for part in _outline(x, x * nan, x)] == [0, 0]


@pytest.mark.parametrize(
    "result",
    [eigenpairs(1e8), made.diagonal(), made.trace(), made.family(count=1), made.family(made.trace, 3), made.layers()],
    ids=lambda result: result.kind,
)
def test_words_beside_points_have_room(result):
    """They began at the markers, and long ones were cut off at the right edge."""
    figure = result.plot(backend="plotly")
    beside = [trace for trace in figure.data if trace.type == "scatter" and trace.text is not None]
    assert beside or result.kind == "eigenpairs"
    for trace in beside:
        assert trace.marker.size >= 8
        assert trace.marker.opacity == 0
        assert not any(text.startswith(" ") for text in trace.text)
        axis = figure.layout[f"xaxis{trace.xaxis[1:]}"]
        margin = figure.layout.margin
        wide = (axis.domain[1] - axis.domain[0]) * (figure.layout.width - margin.l - margin.r)
        start = (np.asarray(trace.x) - axis.range[0]) / (axis.range[1] - axis.range[0]) * wide
        assert (start + [5.5 * len(text) for text in trace.text] <= wide + 1e-6).all()


@BOTH
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_large_and_small_values_have_powers_of_ten(scale, backend):
    power = "⁸" if scale > 1 else "⁻⁸"
    for result in (
        eigenpairs(scale, 1e-3 * scale),
        made.density(scale=scale),
        made.family(lambda: made.density(scale=scale), 2),
    ):
        found = words(result.plot(backend=backend))
        assert not any("e+0" in text or "e-0" in text or "e−0" in text for text in found)
        if backend == "matplotlib":
            assert any(text.endswith(f"10{power}") for text in found)
            assert not any(text in ("1e8", "1e−8") for text in found)


def test_numbers_are_written_as_by_hand():
    assert typeset("-1.055e+10 ± 8.8e-07") == "−1.055·10¹⁰ ± 8.8·10⁻⁷"
    assert typeset("1e-08, residual 1e-11") == "10⁻⁸, residual 10⁻¹¹"
    assert typeset("3, 0.5") == "3, 0.5"


@pytest.mark.parametrize("probes", [0, 1])
def test_where_nothing_settles_no_panel_says_so(probes):
    result = made.trace(probes) if probes else made.estimate(0)
    (panels,) = view(result.kind)(result).rows
    assert [type(panel) for panel in panels] == [Bars]
    assert "Left" not in caption(result)
    assert "after each further probe" not in caption(result)
    assert "intervals" not in panels[0].title
    (single,) = view("estimate")(made.estimate(1)).rows[0]
    assert isinstance(single, Bars)
    assert single.texts
    assert single.high[0] > single.values[0]


def test_members_without_error_bars_are_drawn_whole():
    panel = view("family")(made.family(lambda: made.trace(1), 3)).rows[0][0]
    assert np.isfinite(panel.axis.limits).all()
    assert panel.axis.limits[1] > panel.values.max()
    assert panel.axis.label == "trace (loss / parameter²)"
    assert "no error bars" in panel.title


def test_shares_within_blocks_have_ticks_that_fit_them():
    panel = view("layers")(made.layers(1)).rows[1][0]
    low, high = panel.axis.limits
    assert low <= panel.values.min() < panel.values.max() <= high
    assert 3 <= len(panel.axis.ticks) <= 9


def test_residuals_larger_than_all_values_are_seen_whole_and_a_single_one_flattens_nothing():
    low, high = reach_of(upper(eigenpairs(1e-8, residual=1e-6)))
    assert low < -1e-6
    assert high > 1e-6
    residuals = np.array([0.1, 0.1, 0.1, 1e3])
    curve = Curve(np.arange(4.0), np.arange(4.0), low=-residuals, high=residuals, interval="bars")
    assert reach_of(Curves(Axis(), Axis(), [curve])) == (-4.5, 7.5)


def test_a_legend_goes_where_nothing_is():
    x = np.linspace(0, 1, 40)
    lines = [Curve(x, np.full(40, height)) for height in (0.05, 0.7, 0.95)]
    panel = Curves(Axis(limits=(0, 1)), Axis(limits=(0, 1)), lines)
    side, top = quiet_box(panel, 0.2, 0.3)
    assert side == "right"
    assert 0.05 < top - 0.3 < top < 0.7
    assert quiet_box(Curves(Axis(limits=(0, 1)), Axis(limits=(0, 1)), lines[:1]), 0.2, 0.3) == ("right", 1.0)
