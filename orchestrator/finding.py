"""One thing that `check` has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """`error`: the pipeline would not do what it says; `warning`: it would, with something to know; `info`: a fact."""

    level: Literal["error", "warning", "info"]
    where: str
    message: str
