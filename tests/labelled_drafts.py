"""Labelled drafts of known truth, to fit a confidence on."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Drafts:
    """Per draft: features, tags, whether it was right, and the probability with which it was."""

    features: list[dict[str, float | None]]
    tags: list[dict[str, str]]
    right: list[bool]
    truth: list[float]


def drafts(n: int, seed: int, *, interaction: float = 0.0) -> Drafts:
    """P(right) is logistic in log-probability, a check and the language; `interaction` adds what no line can tell:
    sure drafts are right on short tasks, unsure ones on long. q0 is missing now and then, `stopped` constant."""
    draw = random.Random(seed)
    made = Drafts([], [], [], [])
    for _ in range(n):
        mean = -abs(draw.gauss(0.3, 0.3))
        chars = draw.lognormvariate(5.0, 1.0)
        lang = draw.choices(["de", "en", "fr", "xx"], [0.4, 0.3, 0.295, 0.005])[0]
        ok = draw.random() < 0.9
        z = 2.0 + 3.0 * mean + 1.5 * (ok - 0.9) - (1.0 if lang == "fr" else 0.0)
        z += interaction * (1.0 if (mean > -0.3) == (chars > 150.0) else -1.0)
        q0 = None if draw.random() < 0.05 else 3.0 * mean - draw.random()
        made.features.append({
            "lp_mean": mean, "lp_q0": q0, "task_chars": chars, "schema.ok": float(ok), "stopped": 1.0,
            "task_ascii": draw.random(), "margin": None if draw.random() < 0.8 else 1.0,
        })
        made.tags.append({"lang": lang})
        made.truth.append(1.0 / (1.0 + math.exp(-z)))
        made.right.append(draw.random() < made.truth[-1])
    return made
