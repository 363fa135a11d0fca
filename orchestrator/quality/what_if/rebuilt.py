"""A recorded draft as rules saw it, rebuilt from the numbers and the content that are still kept.

**What is not kept is missed, not guessed**: `NotKept` stands in its place, and remembers that it was asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.config.feature_names import LOGPROB_VALUE
from orchestrator.quality.history.looks import VALIDATED
from orchestrator.quality.history.recorded import RecordedDraft
from orchestrator.records import Json, Signal


class NotKept(Mapping[str, Any]):
    """Stands where something was. Whoever looks into it leaves its name in `missed`."""

    def __init__(self, name: str, missed: set[str]) -> None:
        self._name, self._missed = name, missed

    def __getitem__(self, key: str) -> Any:
        self._missed.add(self._name)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        self._missed.add(self._name)
        return iter(())

    def __len__(self) -> int:
        self._missed.add(self._name)
        return 0

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftShape:
    """What of a step decides how its drafts are rebuilt. `kinds` are (name, kind) of its signals; `required` those
    without which nothing is accepted; `structured`: it has an output schema; `text` that schema allows plain text;
    `alone`: the pipeline has no other step."""

    step: str
    kinds: tuple[tuple[str, str], ...]
    required: frozenset[str]
    structured: bool
    text: bool
    alone: bool

    @property
    def value_kind(self) -> str:
        return "value" if self.alone else f"value:{self.step}"


class Rebuilt:
    """One recorded run as the rules of any policy see it: each part is rebuilt once, however many ask. `missed` names
    what was looked for and is not kept; `unknown` what is missing already among the numbers."""

    def __init__(
        self, draft: RecordedDraft, contents: Mapping[str, Json], shape: DraftShape, *, confidence: float | None,
        unknown: frozenset[str],
    ) -> None:
        self.draft, self.contents, self.confidence = draft, contents, confidence
        self._shape = shape
        self.missed: set[str] = set()
        self.oks = tuple(draft.features.get(f"{name}.ok") for name, _ in shape.kinds)
        self.unknown = unknown.union(
            f"whether signal {name!r} was ok" for (name, _), ok in zip(shape.kinds, self.oks, strict=True) if ok is None
        )
        self.value, self.parsed = draft_of(draft, shape, contents, self.missed)

    @cached_property
    def base(self) -> dict[str, Any]:
        """The task, {input, meta}, and the other steps, as rules saw them."""
        steps = {} if self._shape.alone else steps_of(self.contents, self._shape.step, self.missed)
        return {"task": task_of(self.contents, self.missed), "steps": steps}

    @cached_property
    def signals(self) -> dict[str, Signal]:
        """Each signal with what is known of it: whether it was ok, and its value where that is a number."""
        return {
            name: Signal(
                name=name, value=_value(self.draft.features, name, kind, self.missed), ok=ok == 1.0,
                reason=NotKept(f"the reason of signal {name!r}", self.missed),  # type: ignore[arg-type]  # for a text
                required=name in self._shape.required,
            )
            for (name, kind), ok in zip(self._shape.kinds, self.oks, strict=True)
        }


def task_of(contents: Mapping[str, Json], missed: set[str]) -> Mapping[str, Any]:
    """{input, meta} as rules saw them."""
    said = contents.get("task")
    if said is None:
        return NotKept("the task's content", missed)
    return {"input": said["input"], "meta": said["meta"]}


def steps_of(contents: Mapping[str, Json], step: str, missed: set[str]) -> Mapping[str, Any]:
    """The values of other steps, by id."""
    found: dict[str, Any] = {}
    for kind, value in contents.items():
        other = kind.removeprefix("value:")
        if other not in (kind, step):
            found[other] = {
                "value": value, "status": NotKept(f"the status of step {other!r}", missed), "skipped": False,
            }
    return found or NotKept("the values of other steps", missed)


def confidence_at(draft: RecordedDraft, path: str, shape: DraftShape, missed: set[str]) -> float | None:
    """The number at a path like `logprob.span.min`: as it was recorded where it is the same one, else as it is kept,
    with five digits."""
    name, _, rest = path.partition(".")
    kind = dict(shape.kinds).get(name)
    feature = _feature(rest) if kind == "logprob" else name if not rest else None
    if feature is None or feature not in draft.features:
        missed.add(f"the number {path!r}")
        return None
    kept = draft.features[feature]
    exact = draft.confidence
    return exact if exact is not None and kept is not None and float(f"{exact:.5g}") == kept else kept


def draft_of(
    draft: RecordedDraft, shape: DraftShape, contents: Mapping[str, Json], missed: set[str]
) -> tuple[Json, bool]:
    """(value, parsed). What was served unchecked was the draft; of what was repaired, the draft is kept beside it."""
    kind = f"draft:{shape.step}"
    if kind not in contents and draft.status == "accepted":
        kind = shape.value_kind
    gone = NotKept("the draft's content", missed)
    if draft.features.get("schema.ok") == 1.0 or not shape.structured:
        return contents.get(kind, gone), bool(draft.features.get("chars"))
    if kind not in contents:
        return gone, draft.status in ("accepted", *VALIDATED)
    parsed = shape.text or not isinstance(contents[kind], str)
    return (contents[kind] if parsed else None), parsed


def _value(features: Mapping[str, float | None], name: str, kind: str, missed: set[str]) -> Json:
    if kind == "logprob":
        whole = _numbers(features, "lp")
        return None if whole is None else {**whole, "span": _numbers(features, "span")}
    number = features.get(name)
    return NotKept(f"the value of signal {name!r}", missed) if number is None else number


def _numbers(features: Mapping[str, float | None], prefix: str) -> dict[str, float | None] | None:
    if features.get(f"{prefix}_n") is None:
        return None
    return {shown: features.get(f"{prefix}_{kept}") for kept, shown in LOGPROB_VALUE.items()}


def _feature(part: str) -> str:
    prefix, name = ("span", part.removeprefix("span.")) if part.startswith("span.") else ("lp", part)
    return f"{prefix}_{next((kept for kept, shown in LOGPROB_VALUE.items() if shown == name), name)}"
