"""Every kind of result, in every backend."""

from __future__ import annotations

import inspect
import json
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest

import landscape.results as results
from landscape.errors import InputError
from landscape.plots import caption, compare, draw
from landscape.plots.placement import quiet_spot
from landscape.plots.registry import BACKENDS, VIEWS, view
from landscape.plots.scales import Axis, Symlog, even_values, log_ticks, text
from landscape.plots.sheets import Bars, Curve, Curves
from landscape.plots.views.recording import panels_of
from landscape.results.base import KINDS
from tests.plots import made

BOTH = pytest.mark.parametrize("backend", BACKENDS)
KIND = pytest.mark.parametrize("kind", sorted(made.EVERY))


def words(figure) -> list[str]:
    """Every text in a figure of either backend."""
    if hasattr(figure, "to_dict"):
        found: list[str] = []

        def walk(node):
            if isinstance(node, dict):
                found.extend(v for k, v in node.items() if k in ("text", "name") and isinstance(v, str))
                found.extend(str(t) for t in node.get("ticktext", ()))
                node = list(node.values())
            if isinstance(node, list | tuple):
                for item in node:
                    walk(item)

        walk(json.loads(figure.to_json())["layout"])
        walk([{"name": trace.name} for trace in figure.data])
        return found
    figure.draw_without_rendering()
    return [artist.get_text() for artist in figure.findobj(mpl.text.Text) if artist.get_text()]


def picture(figure) -> bytes:
    """The figure as bytes that are equal when the figures are."""
    if hasattr(figure, "to_json"):
        return figure.to_json().encode()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=30)
    return buffer.getvalue()


def test_every_kind_has_a_view_and_a_sample():
    assert set(VIEWS) == set(KINDS) == set(made.EVERY)
    for kind in VIEWS:
        parameters = inspect.signature(view(kind)).parameters
        assert {"title", "size"} <= set(parameters)


@BOTH
@KIND
def test_draws_with_words_and_leaves_global_state_alone(kind, backend):
    result = made.EVERY[kind]()
    before = dict(mpl.rcParams)  # the backend is among them
    bytes_before = {name: v.values.tobytes() for name, v in result.dataset.variables.items() if v.dtype != object}
    figure = result.plot(backend=backend)
    found = words(figure)
    assert any("eval mode" in w for w in found)
    assert any("512 examples" in w for w in found)
    assert dict(mpl.rcParams) == before
    for name, raw in bytes_before.items():
        assert result.dataset.variables[name].values.tobytes() == raw
    axes = [a for a in figure.axes if a.get_visible()] if backend == "matplotlib" else []
    for a in axes:
        if a.axison and a.get_label() != "<colorbar>":
            assert a.get_xlabel() or a.get_xticklabels()
            assert a.has_data()


@BOTH
@KIND
def test_the_file_draws_what_memory_draws(kind, backend, tmp_path):
    result = made.EVERY[kind]()
    loaded = results.load(result.save(tmp_path / "a.nc"))
    # the whole dashboard in one backend is enough: laying it out twice more takes seconds
    one = "sharpness" if (kind, backend) == ("recording", "matplotlib") else None
    assert picture(draw(loaded, one, backend=backend)) == picture(draw(result, one, backend=backend))


@BOTH
@KIND
def test_bad_names_are_refused_in_words(kind, backend):
    result = made.EVERY[kind]()
    with pytest.raises(InputError, match="no such plot option"):
        result.plot(backend=backend, colour="red")
    with pytest.raises(InputError, match="nonsense"):
        result.plot("nonsense", backend=backend)
    with pytest.raises(InputError, match="size must be"):
        result.plot(backend=backend, size="large")


def test_unknown_backend_and_subject_are_refused():
    with pytest.raises(InputError, match="matplotlib, plotly"):
        made.trace().plot(backend="gnuplot")
    with pytest.raises(InputError, match="only results"):
        draw([1, 2, 3])


@BOTH
@pytest.mark.parametrize(
    ("result", "options"),
    [
        (made.plane(), {"kind": "heatmap"}),
        (made.plane(), {"kind": "surface", "trajectory": made.projection()}),
        (made.plane(), {"trajectory": made.projection(), "levels": [0.1, 0.5, 2, 5], "title": "", "size": (5, 4)}),
        (made.plane(False), {"limits": (0.2, 3), "log": False, "levels": 7}),
        (made.plane(), {"quantity": "accuracy"}),
        (made.line(), {"limits": (0, 2)}),
        (made.line(), {"quantity": "error", "log": True}),
        (made.eigenpairs(good=False), {}),
        (made.trace(1), {}),
        (made.trace(2), {"top": 3}),
        (made.density(1), {"quantity": "counts"}),
        (made.density(), {"width": 0.05, "quantity": "density"}),
        (made.conflict(), {"quantity": "z"}),
        (made.conflict(), {"quantity": "cosine_unbiased"}),
        (made.gradients(), {"top": 2}),
        *[(result, {}) for result in (made.overlaps(40), made.overlaps(pair=True), made.shares(), made.shares(30))],
        (made.layers(50), {}),
        *[(made.family(of), {}) for of in (made.trace, made.density, made.conflict, made.diagonal, made.estimate)],
        (made.family(made.density, 12, "checkpoint"), {}),
        (made.family(made.eigenpairs, 40), {}),
        (made.family(made.trace, 60, "checkpoint"), {}),
        (made.recording(9000), {"quantity": "loss"}),
        *[(made.recording(100), {"quantity": q}) for q in ("sharpness", "threshold", "gradient_conflict", "my_number")],
    ],
)
def test_options_and_corners(result, options, backend):
    figure = draw(result, backend=backend, **options)
    assert words(figure) or options.get("title") == ""


def test_the_first_and_last_of_many_names_fit_an_upright_axis():
    """In one line the label ran over the title and the panel below."""
    upper, _ = (row[0] for row in view("family")(made.family(made.density, 100)).rows)
    assert max(len(line) for line in upper.y_axis.label.split("\n")) <= 26


@pytest.mark.parametrize("count", [5, 60])
def test_intervals_that_reach_below_zero_are_not_drawn_on_a_logarithmic_axis(count):
    members = {str(i): made.trace() for i in range(count)}
    for i, member in enumerate(members.values()):
        member.dataset["samples_by_parameter"][:] *= (i + 1) ** 2 / member.estimate
        member.dataset["samples"][:] = member.dataset["samples_by_parameter"].sum("parameter")
        member.dataset.attrs["stderr"] = float(i + 1) ** 2
    panel = view("family")(made.Family.make(members, by="layer", provenance=made.ORIGIN)).rows[0][0]
    axis = panel.axis if isinstance(panel, Bars) else panel.y
    assert axis.scale != "log"
    assert axis.limits is not None
    assert axis.limits[0] <= min(m.interval()[0] for m in members.values())


@BOTH
def test_values_without_any_finite_one_are_drawn(backend):
    surface = made.plane()
    surface.dataset["loss"][:] = np.nan
    for kind in ("contour", "heatmap", "surface"):
        assert words(surface.plot(backend=backend, kind=kind))
    flat = made.plane(holes=False)
    flat.dataset["loss"][:] = 1.0
    assert words(flat.plot(backend=backend))


@BOTH
def test_a_run_whose_loss_is_never_finite_still_shows_it(backend):
    lines = [{"step": i, "values": {"loss": "nan"}} for i in range(5)]
    found = " ".join(words(results.Recording.from_lines({"status": "not finite"}, lines).plot(backend=backend)))
    assert "5 not finite, first at 0" in found
    assert "NOT FINITE" in found


@BOTH
def test_records_that_did_not_converge_are_hollow(backend):
    figure = made.recording().plot("sharpness", backend=backend)
    if backend == "plotly":
        symbols = next(t.marker.symbol for t in figure.data if t.marker.symbol)
        assert [i for i, s in enumerate(symbols) if s == "circle-open"] == [2]
    else:
        open_ = [a for a in figure.axes[0].lines if a.get_marker() == "o" and a.get_markerfacecolor() == "white"]
        assert [list(a.get_xdata()) for a in open_] == [[80]]


def run_of(sharpness, threshold, **header):
    lines = [{"step": i, "values": {"loss": 2.0 - 0.1 * i, "lr": 0.1}} for i in range(9)]
    for step in (0, 4, 8):
        values = {"sharpness": sharpness + step / 10, "threshold": threshold, "edge": sharpness / threshold}
        lines.append({"step": step, "metric": "sharpness", "values": values, "status": "converged"})
        cosine = np.eye(10).tolist()
        lines.append({"step": step, "metric": "conflict", "values": {"conflict_cosine": cosine}, "status": "complete"})
    labels = {"conflict_cosine": [f"class {i}" for i in range(10)]}
    return results.Recording.from_lines({"status": "complete", "labels": labels, **header}, lines)


@pytest.mark.parametrize(("threshold", "drawn"), [(5.0, True), (38.0, True), (400.0, False)])
def test_panels_show_what_they_are_measured_against_or_say_where_it_is(threshold, drawn):
    panels = panels_of(run_of(10.0, threshold))
    low, high = panels["sharpness"].y.limits
    assert (low <= threshold <= high) == drawn
    assert (panels["sharpness"].remark == "threshold 400, above this range") != drawn
    assert [r.text for r in panels["sharpness"].references] == (["stability threshold"] if drawn else [])
    low, high = panels["edge"].y.limits
    assert low < 1.0 < high
    low, high = panels["lr"].y.limits
    assert 0 <= low < 0.1 < high <= 0.2
    assert panels["lr"].title == "learning rate"


@BOTH
def test_notes_on_a_metric_stand_at_its_panels_and_in_the_caption(backend):
    run = run_of(10.0, 38.0, notes={"sharpness": "train mode, 128 examples", "nothing": ""})
    found = words(run.plot(backend=backend))
    assert sum("train mode, 128 examples" in w for w in found) == 2  # sharpness and the edge meter
    assert "sharpness (train mode, 128 examples)" in caption(run)
    assert "nothing" not in caption(run)
    assert panels_of(run_of(10.0, 38.0, notes="?"))["sharpness"].note == ""


def test_panels_of_a_dashboard_are_aligned_and_small_matrices_hold_no_numbers():
    figure = run_of(10.0, 38.0).plot()
    figure.draw_without_rendering()
    spots = [a.get_position(original=True) for a in figure.axes if a.get_subplotspec() is not None]
    assert len({round(spot.width, 3) for spot in spots}) == 1
    assert len({round(spot.height, 3) for spot in spots}) == 1
    assert len({round(spot.x0, 3) for spot in spots}) == 3
    matrices = [a for a in figure.axes if "conflict cosine" in a.get_title("left")]
    assert [a.get_title("left")[-6:] for a in matrices] == ["step 0", "step 8"]  # a full row of three with the edge
    assert not any(a.texts for a in matrices)
    assert run_of(10.0, 38.0).plot("conflict_cosine").axes[0].texts


@BOTH
@pytest.mark.parametrize("count", [1, 3])
def test_few_eigenvalues_are_rows_with_their_numbers(count, backend):
    converged = np.arange(count) > 0
    result = results.EigenResult.make(
        np.array([61.25, 8.0, -2.5])[:count], np.full(count, 0.02), converged, np.eye(6, count), which="LA", tol=1e-3,
        matvecs=9, status="not converged", message="", provenance=made.ORIGIN,
    )  # fmt: skip
    figure = result.plot(backend=backend)
    if backend == "matplotlib":
        assert figure.get_figheight() < 3
        assert "61.25, residual 0.02, not converged" in words(figure)
    else:
        assert figure.layout.height < 300
        assert any("61.25, residual 0.02, not converged" in str(t.text) for t in figure.data)
    assert ("One eigenvalue of" if count == 1 else "3 eigenvalues of") in caption(result)


@BOTH
@pytest.mark.parametrize("kind", ["contour", "surface"])
def test_a_path_lies_on_top_of_its_surface(kind, backend):
    figure = made.plane(False).plot(backend=backend, kind=kind, trajectory=made.projection())
    found = " ".join(words(figure))
    assert "start (step 0)" in found
    assert "end (step 110)" in found
    assert "centre" not in found  # the path ends there
    if backend == "plotly":
        assert figure.data[-1].name == "end (step 110)"


@BOTH
def test_holes_are_counted_apart(backend):
    found = " ".join(words(made.plane().plot(backend=backend)))
    assert "not evaluated (9)" in found
    assert "not finite (3)" in found
    assert "INTERRUPTED" in found


@BOTH
def test_names_are_never_markup(backend):
    lines = [{"step": 0, "values": {"loss": 1.0}}]
    lines.append({"step": 0, "metric": "x", "values": {"<a href='x'>$a_b$": 1.0}, "status": "complete"})
    result = results.Recording.from_lines({"status": "complete", "title": "<b>$x^{$</b>"}, lines)
    found = " ".join(words(result.plot(backend=backend)))
    assert "$" in found
    assert "<a href" not in found or backend == "matplotlib"


def test_comparison_shares_one_scale():
    named = {"a": made.plane(), "b": made.plane(False, scale=30.0), "c": made.plane(False)}
    figure = compare(named, backend="plotly")
    shown = [t for t in figure.data if t.type == "contour"]
    assert len(shown) == 3
    assert {t.coloraxis for t in shown} == {"coloraxis"}
    assert len({json.dumps(t.contours.to_plotly_json()) for t in shown}) == 1
    drawn = compare(named, kind="heatmap")
    meshes = [m for m in drawn.findobj(mpl.collections.QuadMesh) if m.axes.get_label() != "<colorbar>"]
    assert len({m.get_clim() for m in meshes}) == 1
    assert sum(a.get_label() == "<colorbar>" for a in drawn.axes) == 1
    differing = compare({"a": made.plane(), "b": made.plane(mode="train")})
    assert any("MODES DIFFER" in w for w in words(differing))


@BOTH
def test_comparison_of_lines_and_refusals(backend):
    assert {"a", "b"} <= set(words(compare({"a": made.line(), "b": made.line(False)}, backend=backend)))
    with pytest.raises(InputError, match="lines cannot be compared"):
        compare({"a": made.line(), "b": made.plane()}, backend=backend)
    with pytest.raises(InputError, match="named surfaces"):
        compare([made.plane()], backend=backend)
    with pytest.raises(InputError, match="pie"):
        compare({"a": made.plane()}, backend=backend, kind="pie")
    with pytest.raises(InputError, match="named surfaces"):
        compare(made.plane(), backend=backend)


def test_comparison_in_three_dimensions_shares_colours_and_heights():
    named = {"a": made.plane(False), "b": made.plane(False, scale=30.0)}
    figure = compare(named, backend="plotly", kind="surface")
    shown = [t for t in figure.data if t.type == "surface"]
    assert {t.scene for t in shown} == {"scene", "scene2"}
    assert {t.coloraxis for t in shown} == {"coloraxis"}
    heights = {tuple(figure.layout[name].zaxis.range) for name in ("scene", "scene2")}
    assert len(heights) == 1
    assert next(iter(heights))[1] >= max(np.nanmax(t.z) for t in shown)
    drawn = compare(named, kind="surface")
    spaces = [a for a in drawn.axes if a.name == "3d"]
    assert [a.get_title("left") for a in spaces] == ["a", "b"]
    assert len({a.get_zlim() for a in spaces}) == 1
    assert sum(a.get_label() == "<colorbar>" for a in drawn.axes) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "pie"},
        {"levels": 0},
        {"levels": [2, 1]},
        {"levels": True},
        {"log": "yes"},
        {"limits": (3, 1)},
        {"limits": (-1, 1), "log": True},
        {"trajectory": 3},
    ],
)
def test_bad_surface_options_are_refused(options):
    with pytest.raises(InputError):
        made.plane().plot(**options)


def test_density_integrates_to_one_and_shows_a_single_eigenvalue():
    from landscape.plots.views.density import density, eigenvalue_axis, node_grid, one_eigenvalue

    result = made.density()
    axis = eigenvalue_axis(result)
    assert isinstance(axis.scale, Symlog)
    grid = node_grid(result, axis, None)
    heights = result.density(grid)
    assert ((heights[1:] + heights[:-1]) / 2 * np.diff(grid)).sum() == pytest.approx(1, abs=2e-3)
    assert list(result.atoms.values) == [80.0]
    sheet = density(result, "density").rows[0][0]
    stem, head = sheet.curves[1:]
    assert list(head.x) == [80.0]
    assert head.y[0] == one_eigenvalue(result, axis, None) > sheet.y.limits[0]
    assert np.nanmax(stem.y) == head.y[0]


def test_words_stand_where_no_data_are():
    x, y = np.linspace(0, 1, 50), np.where(np.linspace(0, 1, 50) > 0.4, 0.55, 0.1)
    panel = Curves(Axis(limits=(0, 1)), Axis(limits=(0, 1)), [Curve(x, y)])
    assert quiet_spot(panel, 0.5, 0.3) == (0.0, "left", "above")
    assert quiet_spot(panel, 0.5, 0.9)[2] == "below"
    assert quiet_spot(panel, 0.98, 0.3)[2] == "below"


def test_scales():
    scale = Symlog(0.1)
    values = np.array([-100.0, -0.1, -0.05, 0.0, 0.1, 3.0])
    assert np.allclose(scale.inverse(scale.forward(values)), values)
    assert (np.diff(scale.forward(np.sort(values))) > 0).all()
    assert list(scale.ticks(-1, 100)) == [-1, 0, 1, 10, 100]
    assert list(log_ticks(0.1, 1)) == [0.1, 0.2, 0.5, 1]
    assert [text(v) for v in (0, -0.25, 1e-5, 2.5e7, 1000)] == ["0", "−0.25", "10⁻⁵", "2.5·10⁷", "1000"]
    for low, high in ((0, 1), (-3.2, 8.1), (5, 5)):
        found = even_values(low, high, 10)
        assert found[0] <= low
        assert found[-1] >= high
        assert 4 <= len(found) <= 25
