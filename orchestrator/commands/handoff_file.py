"""A file of what people answered, CSV or JSON lines: which run, the value, how it turned out, and why.

Columns: `run_id`, `success`, and optionally `value` (in a CSV cell as JSON) and `reason`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.commands.feedback_file import lines_of, refuse, text_in, truth_in

if TYPE_CHECKING:
    from orchestrator.store.engine import Store
    from orchestrator.store.resolutions import Resolution

COLUMNS = "run_id,value,success,reason"


def read_resolutions(path: Path) -> list[tuple[int, Resolution]]:
    """All rows of the file, each with its line. Raises InputError that lists the bad lines."""
    rows: list[tuple[int, Resolution]] = []
    bad: list[str] = []
    for line, values in lines_of(path, COLUMNS, ("run_id",)):
        try:
            if isinstance(values, str):
                raise ValueError(values)
            rows.append((line, _row(values, is_json=path.suffix.lower() in (".jsonl", ".ndjson"))))
        except ValueError as error:
            bad.append(f"{path}:{line}: {error}")
    refuse(bad)
    return rows


async def resolve_all(store: Store, path: Path, rows: Sequence[tuple[int, Resolution]]) -> None:
    """Close them in one commit. Raises InputError that lists the lines that can't be taken: then none was."""
    wanted = [one for _, one in rows]
    found = await store.refused_resolutions(wanted)
    refuse([
        f"{path}:{line}: {refused.why}; {refused.hint}"
        for (line, _), refused in zip(rows, found, strict=True) if refused is not None
    ])
    await store.resolve_handoffs(wanted)


def _row(values: Mapping[str, Any], *, is_json: bool) -> Resolution:
    """Raises ValueError that says what is wrong with it."""
    from orchestrator.store.resolutions import Resolution

    run_id = text_in(values, "run_id")
    if not run_id:
        raise ValueError("run_id is empty")
    value = values.get("value")
    return Resolution(
        run_id=run_id, value=value if is_json else _json(value), success=truth_in(values),
        reason=text_in(values, "reason"),
    )


def _json(cell: str | None) -> Any:
    if cell is None or not cell.strip():
        return None
    try:
        return json.loads(cell)
    except ValueError:
        raise ValueError(f'value is {cell[:60]!r}, which is not JSON: a text stands in quotes, as "yes"') from None
