"""Captions, the report, picture files, and what importing costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from landscape.errors import FileError, InputError, LandscapeError
from landscape.plots import caption, render, report
from landscape.results.runlog import RunLog
from tests.plots import made


@pytest.mark.parametrize("kind", sorted(made.EVERY))
def test_captions_say_data_mode_and_how_sure(kind):
    result = made.EVERY[kind]()
    found = caption(result)
    assert "512 examples" in found
    assert "evaluation mode" in found
    assert "9f31c0aa77d2" in found
    assert found.endswith(".")
    assert "nan" not in found
    bare = type(result)(result.dataset.assign_attrs(provenance="{}"))
    assert "Computed" not in caption(bare)


def test_captions_say_what_is_wrong():
    assert "1 of them has not converged (hollow)" in caption(made.eigenpairs(good=False))
    assert "Status: not converged: raise max_matvecs." in caption(made.eigenpairs(good=False))
    holes = caption(made.plane())
    assert "loss is not finite (NaN or infinite) at 3 points" in holes.replace("Loss", "loss")
    assert "9 points were not evaluated" in holes
    assert "Status: interrupted: stopped by Ctrl-C." in holes
    run = caption(made.recording())
    assert "1 of 8 records of sharpness" in run
    assert "not finite (NaN or infinite) at 1 step" in run
    assert "one probe gives no error bar" in caption(made.trace(1))
    few = caption(made.plane(), quantity="accuracy", trajectory=made.projection(), kind="surface")
    assert "Accuracy at 9 by 9 points" in few
    assert "path of training from step 0 (circle) to step 110 (square)" in few
    assert "colours and heights are" in caption({"a": made.plane()}, kind="surface")
    assert re.search(r"as \d+\.\d\d ± .* interval is \[\d+\.\d\d, \d+\.\d\d\]", caption(made.trace()))
    both = caption({"a": made.plane(), "b": made.plane(False)})
    assert "a: Loss is not finite" in both
    with pytest.raises(InputError):
        caption(3)


def write_run(folder):
    log = RunLog(folder, {"status": "complete", "provenance": made.ORIGIN, "labels": {}})
    log.append(made.recording_lines(60))
    log.close()
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    surface_file = made.plane().save(folder / "surf.nc")
    items = [
        made.recording(60),
        surface_file,
        write_run(folder / "run"),
        ("Sharp <script>alert(1)</script> & flat", made.eigenpairs(good=False)),
        ("Compared", {"<i>a</i>": made.plane(), "b": made.plane(False)}, {"kind": "surface", "metric": "accuracy"}),
        ("Path", made.plane(), {"trajectory": made.projection(), "title": "Along the way"}),
        *(made.EVERY[kind]() for kind in ("conflict", "density", "gradients", "projection", "trace")),
    ]
    made_at = report(items, folder / "r.html", title="A <b> & c", intro="x < y", commands=["landscape demo > log"])
    return made_at.read_text(encoding="utf-8")


def test_report_is_self_contained(page):
    outside = re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.DOTALL)  # all but plotly itself
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", outside)
    assert not re.search(r"@import|url\(", outside)
    assert not re.search(r"<(link|iframe|img)\b", outside)
    assert page.count("Plotly.newPlot(place") == 1
    assert page.count("<script>") == 2


def test_report_has_every_item_with_its_status_and_settings(page):
    figures = re.findall(r'<script type="application/json" class="figure" data-place="([^"]+)">(.*?)</script>', page)
    assert [place for place, _ in figures] == [f"plot-{i}" for i in range(1, 12)]
    assert all(json.loads(text)["data"] for _, text in figures)
    assert page.count("<details>") == 11
    assert page.count('<p class="caption">') == 11
    assert page.count('<span class="badge">') == 4
    assert page.count('<script type="application/json" class="narrow"') == 11
    assert '<p class="title">Along the way</p>' in page
    assert "The line is the path of training" in page
    assert '"type":"surface"' in figures[4][1]
    assert '<ol class="long">' in page
    assert "raise max_matvecs" in page
    assert "landscape demo &gt; log" in page
    assert "surf.nc</a>" in page


def test_report_escapes_names(page):
    assert "<script>alert" not in page
    assert "Sharp &lt;script&gt;alert(1)&lt;/script&gt; &amp; flat" in page
    assert "<title>A &lt;b&gt; &amp; c</title>" in page
    assert "x &lt; y" in page
    assert "<i>a</i>" not in page


def test_report_overwrites_only_when_told(tmp_path):
    target = report(made.trace(), tmp_path / "r.html")
    first = target.read_bytes()
    with pytest.raises(FileError, match="overwrite=True"):
        report({"Again": made.trace()}, target)
    assert target.read_bytes() == first
    report({"Again": made.trace()}, target, overwrite=True)
    assert b"Again" in target.read_bytes()


@pytest.mark.parametrize(
    "items",
    [[], 3, [3], [("a", "b", "c")], [("a", made.trace(), {"no": 1})], [{"a": made.trace()}], ["missing.nc"], [{}]],
)
def test_report_refuses_what_it_cannot_draw_and_leaves_nothing(items, tmp_path):
    with pytest.raises(LandscapeError):
        report(items, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError):
        report([made.trace()], tmp_path / "r.pdf")
    with pytest.raises(InputError):
        report([made.trace()], tmp_path / "r.html", commands="landscape demo")


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("html", b"<!doctype html>")]
)
def test_render_writes_each_format(suffix, start, tmp_path):
    target = render(made.plane(), tmp_path / f"a.{suffix}", quantity="accuracy", kind="heatmap", dpi=50)
    data = target.read_bytes()
    assert data[:20].replace(b"DOCTYPE", b"doctype").startswith(start)
    assert len(data) > 1000
    assert list(tmp_path.iterdir()) == [target]
    if suffix == "html":
        assert not re.search(rb"<script[^>]+src=", data)


def test_render_compares_and_refuses_and_leaves_nothing(tmp_path, monkeypatch):
    assert render({"a": made.plane(), "b": made.plane(False)}, tmp_path / "c.png", dpi=50).exists()
    (tmp_path / "c.png").unlink()
    with pytest.raises(InputError, match=r"\.png, \.pdf"):
        render(made.trace(), tmp_path / "a.jpg")
    with pytest.raises(InputError, match="dpi"):
        render(made.trace(), tmp_path / "a.png", dpi=0)
    with pytest.raises(InputError):
        render(made.trace(), tmp_path / "a.png", kind="contour")
    from matplotlib.figure import Figure

    def fail(self, target, **_):
        target.write_bytes(b"half")
        raise RuntimeError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        render(made.trace(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_importing_draws_nothing_in_and_drawing_needs_no_torch(tmp_path):
    saved = made.eigenpairs().save(tmp_path / "e.nc")
    code = """
import sys
import landscape.plots
def loaded(name): return name in sys.modules
assert not loaded("matplotlib") and not loaded("plotly") and not loaded("torch")
from landscape.results import load
result = load(sys.argv[1])
result.plot()
assert loaded("matplotlib") and not loaded("plotly") and not loaded("matplotlib.pyplot")
result.plot(backend="plotly")
landscape.plots.report([result], sys.argv[2])
assert not loaded("torch") and not loaded("matplotlib.pyplot")
print("fine")
"""
    assert python(code, saved, tmp_path / "r.html") == "fine\n"
