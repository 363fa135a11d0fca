"""The frontier as an SVG picture: cost to the right, quality upwards. Written by hand, so that it needs no library.

Colours follow the reader's light or dark setting; every mark has a shape of its own, and its interval as bars. What is
to be said of the figures stands below them: a picture travels without its table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from orchestrator.quality.what_if.simulate import Simulation
from orchestrator.quality.what_if.what_if import Figure, PolicyFigures

WIDTH, HEIGHT = 820, 560
BARS_TO = 1.5
"""How far bars of cost may stretch the picture, over the largest cost; one that ends beyond it ends in an arrow."""
LEFT, RIGHT, TOP, BOTTOM = 84, 28, 78, 128
NOTE_LINE, NOTE_WIDTH = 18, 112
"""Pixels from one line of the notes to the next, and characters in it."""

_STYLE = """
  text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; font-size: 13px; fill: #24292f; }
  .title { font-size: 16px; font-weight: 600; } .small { font-size: 12px; fill: #57606a; }
  .paper { fill: #ffffff; } .grid { stroke: #d8dee4; stroke-width: 1; } .axis { stroke: #57606a; stroke-width: 1; }
  .point { fill: #8c959f; } .hull { fill: none; stroke: #0969da; stroke-width: 2; }
  .present { fill: #1a7f37; stroke: #1a7f37; } .proposed { fill: #bc4c00; stroke: #bc4c00; }
  .draft { fill: #8250df; stroke: #8250df; } .validate { fill: #cf222e; stroke: #cf222e; } .bar { stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9198a1; } .paper { fill: #0d1117; } .grid { stroke: #2a313c; }
    .axis { stroke: #9198a1; } .point { fill: #656c76; } .hull { stroke: #4493f8; }
    .present { fill: #3fb950; stroke: #3fb950; } .proposed { fill: #f0883e; stroke: #f0883e; }
    .draft { fill: #ab7df8; stroke: #ab7df8; } .validate { fill: #f85149; stroke: #f85149; }
  }
"""
_MARKS = {"present": "present", "proposed": "proposed", "always draft": "draft", "always validate": "validate"}


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to pixels, with round ticks."""

    low: float
    high: float
    start: float
    end: float
    step: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Iterator[float]:
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        yield from (i * self.step for i in range(first, last + 1))


def svg(simulation: Simulation) -> str:
    """A picture of the frontier, its hull and the marked policies. Those without a known cost or quality are left
    out, and the legend says so."""
    marked = [one for one in simulation.policies if one.name in _MARKS]
    drawn = [one for one in marked if one.cost.value is not None and one.quality.value is not None]
    points = [p for p in simulation.frontier.points if p.figures.cost.value is not None]
    costs = [float(one.cost.value or 0.0) for one in drawn] + [float(p.figures.cost.value or 0.0) for p in points]
    widest = BARS_TO * max(costs, default=1.0)
    costs += [min(one.cost.high, widest) for one in drawn if one.cost.high is not None]
    scale, unit = (1000.0, "per 1,000 tasks") if max(costs, default=1.0) < 0.1 else (1.0, "per task")
    x = _axis([c * scale for c in costs], LEFT, WIDTH - RIGHT, zero=True)
    qualities = [q for one in drawn for q in _ends(one.quality)]
    qualities += [p.figures.quality.value for p in points if p.figures.quality.value is not None]
    y = _axis(qualities, HEIGHT - BOTTOM, TOP, top=1.0)
    body = [
        *_frame(simulation, x, y, f"{simulation.currency or 'cost'} {unit}"),
        *_frontier(simulation, x, y, scale),
        *(line for one in drawn for line in _marked(one, x, y, scale)),
        *_legend(simulation, marked),
    ]
    title = f"{simulation.pipeline} / {simulation.step}: cost against quality"
    notes = list(_notes(simulation))
    height = HEIGHT + (len(notes) + 1) * NOTE_LINE * bool(notes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-labelledby="title description">\n<title id="title">{escape(title)}</title>\n'
        f'<desc id="description">{escape(_described(drawn))}</desc>\n<style>{_STYLE}</style>\n'
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>\n' + "\n".join([*body, *notes]) + "\n</svg>\n"
    )


def _ends(figure: Figure) -> list[float]:
    return [end for end in (figure.low, figure.value, figure.high) if end is not None]


def _axis(
    values: Sequence[float], start: float, end: float, *, zero: bool = False, top: float = math.inf
) -> _Axis:
    """Around the values, to the next round tick; from 0 where asked, and not beyond `top`."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = 0.0 if zero else low
    if high <= low:
        low, high = (low - 0.05, high + 0.05) if not zero else (0.0, high * 2.0 or 1.0)
    step = _round_step((high - low) / 6.0)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return _Axis(low, min(high, top) if top > low else high, start, end, step)


def _round_step(wanted: float) -> float:
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= wanted * (1 - 1e-9))


def _frame(simulation: Simulation, x: _Axis, y: _Axis, unit: str) -> Iterator[str]:
    yield _text(LEFT, 28, f"{simulation.pipeline} / {simulation.step}: cost against quality", "title")
    yield _text(LEFT, 50, f"{simulation.runs:,} recorded runs; bars: {simulation.confidence:.0%} intervals", "small")
    bottom = HEIGHT - BOTTOM
    for tick in x.ticks():
        at = x.at(tick)
        yield f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}"/>'
        yield _text(at, bottom + 20, f"{tick:.10g}", "small", "middle")
    for tick in y.ticks():
        at = y.at(tick)
        yield f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
        yield _text(LEFT - 10, at + 4, f"{tick * 100:.6g}%", "small", "end")
    yield f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>'
    yield f'<line class="axis" x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{bottom}"/>'
    yield _text((LEFT + WIDTH - RIGHT) / 2, bottom + 42, unit, "", "middle")
    middle = (TOP + bottom) / 2
    turned = f'transform="rotate(-90 22 {middle:.1f})"'
    yield f'<text x="22" y="{middle:.1f}" text-anchor="middle" {turned}>answered right</text>'


def _frontier(simulation: Simulation, x: _Axis, y: _Axis, scale: float) -> Iterator[str]:
    hull = []
    for point in simulation.frontier.points:
        cost, quality = point.figures.cost.value, point.figures.quality.value
        if cost is None or quality is None:
            continue
        at = (x.at(cost * scale), y.at(quality))
        words = f"threshold {point.threshold:.6g}: {quality:.1%} right, {cost * scale:.4g}"
        yield f'<circle class="point" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="2"><title>{words}</title></circle>'
        if point.on_hull:
            hull.append(at)
    if hull:
        yield f'<polyline class="hull" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in sorted(hull))}"/>'


def _marked(one: PolicyFigures, x: _Axis, y: _Axis, scale: float) -> Iterator[str]:
    assert one.cost.value is not None
    assert one.quality.value is not None
    kind, across, up = _MARKS[one.name], x.at(one.cost.value * scale), y.at(one.quality.value)
    if one.cost.low is not None and one.cost.high is not None:
        ends = (x.at(one.cost.low * scale), min(x.at(one.cost.high * scale), x.end))
        yield f'<line class="bar {kind}" x1="{ends[0]:.1f}" y1="{up:.1f}" x2="{ends[1]:.1f}" y2="{up:.1f}"/>'
        if one.cost.high * scale > x.high:  # the bar goes on
            tip = f"{x.end:.1f},{up:.1f} {x.end - 8:.1f},{up - 4:.1f} {x.end - 8:.1f},{up + 4:.1f}"
            yield f'<polygon class="{kind}" points="{tip}"/>'
    if one.quality.low is not None and one.quality.high is not None:
        ends = (y.at(one.quality.low), y.at(one.quality.high))
        yield f'<line class="bar {kind}" x1="{across:.1f}" y1="{ends[0]:.1f}" x2="{across:.1f}" y2="{ends[1]:.1f}"/>'
    yield _shape(kind, across, up)


def _shape(kind: str, x: float, y: float) -> str:
    """Told apart without colour: square, diamond, triangle, circle."""
    match kind:
        case "present":
            return f'<rect class="{kind}" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
        case "proposed":
            corners = [(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)]
        case "draft":
            corners = [(x, y - 7), (x + 7, y + 5), (x - 7, y + 5)]
        case _:
            return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
    return f'<polygon class="{kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in corners)}"/>'


def _legend(simulation: Simulation, marked: Sequence[PolicyFigures]) -> Iterator[str]:
    """Two columns under the axis."""
    entries = [(_MARKS[one.name], one.name + _why_absent(one)) for one in marked]
    shown = len(simulation.frontier.points)
    if shown:
        entries += [("point", f"a threshold ({shown:,} shown)"), ("hull", "upper hull of the thresholds")]
    for i, (kind, words) in enumerate(entries):
        across, up = LEFT + 8 + (i % 3) * 240, HEIGHT - 56 + (i // 3) * 26
        if kind == "point":
            yield f'<circle class="point" cx="{across}" cy="{up}" r="3"/>'
        elif kind == "hull":
            yield f'<line class="hull" x1="{across - 8}" y1="{up}" x2="{across + 8}" y2="{up}"/>'
        else:
            yield _shape(kind, across, up)
        yield _text(across + 16, up + 4, words, "")


def _why_absent(one: PolicyFigures) -> str:
    if one.quality.value is None:
        return " (quality unknown)"
    return " (cost unknown)" if one.cost.value is None else ""


def _notes(simulation: Simulation) -> Iterator[str]:
    """Under the legend, each from a line of its own."""
    lines = (line for note in simulation.notes for line in wrap(note, NOTE_WIDTH, subsequent_indent="  "))
    for i, line in enumerate(lines, start=1):
        yield _text(LEFT + (12 if line.startswith("  ") else 0), HEIGHT + i * NOTE_LINE, line.strip(), "small")


def _described(drawn: Sequence[PolicyFigures]) -> str:
    return "; ".join(f"{one.name}: {one.quality.value:.1%} right at {one.cost.value:.4g} a task" for one in drawn)


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
