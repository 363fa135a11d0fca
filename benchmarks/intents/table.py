"""The printed result: accuracy, cost and regret of each way, what was certified, and how long each part took."""

from __future__ import annotations

from benchmarks.intents.place import Place
from benchmarks.intents.results import Results, Way

NAMES = {"draft_only": "draft only", "validate_only": "validate only", "cascade": "cascade"}
HEADER = (
    f"{'':14} {'right':>7} {'escalated':>10} {'regret':>7} {'95% interval':>16} "
    f"{'USD / 1,000 tasks':>18} {'USD / 1,000 successes':>22} {'95% interval':>19}"
)


def rendered(name: str, place: Place, results: Results, *, seconds: float) -> str:
    lines = [
        f"{name}: {len(results.tasks):,} test questions, certified on {len(results.of_part('certify')):,}, measured "
        f"on the other {len(results.of_part('measure')):,}",
        "", HEADER, *map(_row, results.ways.values()), "", *_certified(results), "", *_times(place, seconds),
    ]
    return "\n".join(lines) + "\n"


def _row(way: Way) -> str:
    n, regret = way.line.runs, way.regret_interval
    value, low, high = (1000 * usd for usd in way.per_success)
    interval = "" if way.mode == "validate_only" else f"{regret.low:.2%} to {regret.high:.2%}"
    return (
        f"{NAMES[way.mode]:14} {way.line.successes / n:7.1%} {way.line.escalated / n:10.1%} "
        f"{way.regretted / n:7.2%} {interval:>16} {1000 * way.cost / n:18.5f} {value:22.5f} "
        f"{f'{low:.5f} to {high:.5f}':>19}"
    )


def _certified(results: Results) -> list[str]:
    made, cascade, validate = results.certificate, results.ways["cascade"], results.ways["validate_only"]
    regret = cascade.regretted / cascade.line.runs
    held = "within" if regret <= made["max_regret"] else "ABOVE"
    threshold = "none" if made["threshold"] is None else f"{made['threshold']:.5g}"
    return [
        f"guarantee: {made['guarantee']}",
        f"threshold {threshold}; recommendation {made['recommendation']}: {'; '.join(made['reasons'])}",
        f"measured on the other half: regret {regret:.2%} ({cascade.regretted} of {cascade.line.runs:,}), {held} the "
        f"certified {made['max_regret']:.2%}",
        f"the cascade costs {cascade.cost / validate.cost:.3f} x validating everything, and per success "
        f"{cascade.per_success[0] / validate.per_success[0]:.3f} x",
    ]


def _times(place: Place, seconds: float) -> list[str]:
    return [*(f"{part:24} {took:6.0f} s" for part, took in place.took.items()), f"{'all':24} {seconds:6.0f} s"]
