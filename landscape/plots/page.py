"""The report's page: its style and its skeleton."""

from __future__ import annotations

STYLE = """
:root { --ink: #1d2126; --muted: #667079; --ground: #f6f7f8; --card: #ffffff; --line: #dde1e5; --accent: #0072B2;
  --bad: #b34700; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --muted: #9aa3ad; --ground: #0e1013; --card: #16191d;
  --line: #2c3138; --accent: #56B4E9; --bad: #ff9a5c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 "Helvetica Neue", Helvetica, Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 0 0 .6rem; display: flex; gap: .7rem; align-items: baseline; flex-wrap: wrap; }
p { max-width: 90ch; }
.intro, .caption { white-space: pre-line; }
nav { margin: 1.5rem 0 2rem; } nav ol { padding-left: 1.9rem; margin: .3rem 0; }
nav ol.long { columns: 2 18rem; column-gap: 3rem; max-width: 60rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.3rem 1.4rem;
  margin: 0 0 1.6rem; }
.title { font-weight: 600; margin: 0; } .facts { color: var(--muted); font-size: .88rem; margin: .1rem 0 .5rem; }
.plot .modebar { opacity: 0; transition: opacity .2s; } .plot:hover .modebar { opacity: 1; }
.caption { color: var(--muted); font-size: .95rem; margin: .5rem 0 0; }
.badge { font-size: .78rem; font-weight: 600; color: var(--bad); border: 1px solid var(--bad); border-radius: 99px;
  padding: .1rem .6rem; text-transform: lowercase; }
.message { color: var(--bad); margin: 0 0 .6rem; }
details { margin-top: .5rem; } summary { cursor: pointer; color: var(--muted); font-size: .92rem; }
pre { overflow-x: auto; background: var(--ground); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem 1rem; font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { color: var(--muted); font-size: .88rem; }
@media (max-width: 700px) { main { padding: 1.4rem .6rem 3rem; } section { padding: 1rem .8rem; } }
@media print { section { break-inside: avoid; border: none; padding: 0; } nav, details { display: none; } }
"""

#: Draws every figure, in colours and in a shape that suit the surroundings, and again when those change.
SCRIPT = """
const looks = {light: LIGHT, dark: DARK};
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const look = () => looks[dark.matches ? "dark" : "light"];
const config = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"]};
const narrow = window.matchMedia("(max-width: 700px)");
const draw = () => document.querySelectorAll(narrow.matches ? "script.narrow" : "script.figure").forEach(source => {
  const figure = JSON.parse(source.textContent), place = document.getElementById(source.dataset.place);
  figure.layout.template = look();
  if (narrow.matches) figure.layout.dragmode = false;
  try { Plotly.newPlot(place, figure.data, figure.layout, config); }
  catch (error) { place.textContent = "This figure could not be drawn: " + error.message; }
});
draw();
dark.addEventListener("change", draw);
narrow.addEventListener("change", draw);
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<script>{plotly}</script>
</head>
<body>
<main>
<h1>{title}</h1>
{intro}
{contents}
{sections}
{commands}
<footer>{footer}</footer>
</main>
<script>{script}</script>
</body>
</html>
"""
