"""What a CEL source names, found without compiling it: enough to order steps and to find the rule of a certificate."""

from __future__ import annotations

import re

_STRING = re.compile(r"""r?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_STEP = re.compile(r"(?<![\w.])steps\s*\.\s*([A-Za-z_]\w*)")
_STEP_INDEXED = re.compile(r"""(?<![\w.])steps\s*\[\s*["']([A-Za-z_]\w*)["']\s*\]""")
_CONFIDENCE = re.compile(r"(?<![\w.])(confidence|threshold)\b")
_GATE = re.compile(r"(?<![\w.])(gate|gate_threshold)\b")


def steps_read(source: str) -> frozenset[str]:
    """The ids of steps that `source` reads: `steps.extract.value`, `steps["extract"].value`."""
    indexed = _STEP_INDEXED.findall(source)
    return frozenset([*indexed, *_STEP.findall(_STRING.sub('""', source))])


def reads_confidence(source: str) -> bool:
    """Does `source` compare with `confidence` or `threshold`?"""
    return bool(_CONFIDENCE.search(_STRING.sub('""', source)))


def reads_gate(source: str) -> bool:
    """Does `source` compare with `gate` or `gate_threshold`?"""
    return bool(_GATE.search(_STRING.sub('""', source)))
