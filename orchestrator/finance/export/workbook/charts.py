"""The two pictures of the workbook: what each success cost, and where the money went day by day."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from orchestrator.finance.export.figures import ROLES
from orchestrator.finance.export.workbook.sheet import ACCENT, INK, RULE, Table
from orchestrator.finance.export.workbook.tables import COST, DOWN, HIGH, LABEL, UNIT, UP

PALETTE = {
    "draft": "#4C9F70", "sample": "#8BC6A4", "judge": "#F2B134", "repair": "#E07A5F", "redo": "#B5442E",
    "guard": "#7B8794", "spot check": "#5B7DB1",
}
"""Green is the drafter's, warm colours the validator's."""


Corner = tuple[int, int]
"""Row and column of the first chart's upper left corner, from 0; the others stand below it."""


def unit_charts(book: Any, sheet: Any, table: Table, place: Corner) -> None:
    """Cost per success with its long-run interval: one chart a currency."""
    for i, code in enumerate(table.codes):
        first, last = _block(table, code)
        chart = book.add_chart({"type": "column"})
        chart.add_series({
            "name": f"cost per success, {code}", "categories": f"={table.span(LABEL, first, last)}",
            "values": f"={table.span(UNIT, first, last)}", "fill": {"color": ACCENT},
            "points": _points(table, first, last), "gap": 400 if last - first < 2 else 120,
            "y_error_bars": {
                "type": "custom", "plus_values": f"={table.span(UP, first, last)}",
                "minus_values": f"={table.span(DOWN, first, last)}", "line": {"color": INK, "width": 1.25},
            },
        })
        _dress(chart, f"Cost per successful outcome, {code} (bars: long-run interval)", _top(table, code))
        chart.set_legend({"none": True})
        chart.show_hidden_data()
        sheet.insert_chart(place[0] + i * 16, place[1], chart, _SIZE)


def daily_charts(book: Any, sheet: Any, table: Table, place: Corner) -> None:
    """Cost a day, stacked by role: one chart a currency."""
    for i, code in enumerate(table.codes):
        first, last = _block(table, code)
        chart = book.add_chart({"type": "column", "subtype": "stacked"})
        for title in (role.replace("_", " ") for role in ROLES):
            if any(column.title == title for column in table.columns):
                chart.add_series({
                    "name": title, "categories": f"={table.span('day (UTC)', first, last)}",
                    "values": f"={table.span(title, first, last)}", "fill": {"color": PALETTE[title]}, "gap": 60,
                })
        more = " (calls of unknown cost are not drawn)" if table.total_is_least(COST, code) else ""
        _dress(chart, f"Cost by day and role, {code}{more}")
        axis: dict[str, Any] = {"num_format": "d mmm", "num_font": {"color": INK}}
        every = {"major_unit": max(1, (last - first) // 10), "major_unit_type": "days"}
        chart.set_x_axis(axis | ({"date_axis": True, **every} if last > first else {"text_axis": True}))
        chart.set_legend({"position": "bottom"})
        sheet.insert_chart(place[0] + i * 16, place[1], chart, _SIZE)


def _points(table: Table, first: int, last: int) -> list[dict[str, Any] | None]:
    """A figure that is "at least" so much is hatched: the bar ends where the cost does not."""
    reads = table.columns[table.place("reads")].values[first - table.first : last - table.first + 1]
    hatched = {"pattern": {"pattern": "wide_upward_diagonal", "fg_color": ACCENT, "bg_color": "#FFFFFF"},
               "border": {"color": ACCENT}}
    return [hatched if one == "at least" else None for one in reads]


_SIZE = {"x_scale": 1.45, "y_scale": 1.2, "x_offset": 4, "y_offset": 8}


def below(table: Table) -> Corner:
    return table.last + 2 + len(table.codes), 0


def _top(table: Table, code: str) -> float | None:
    """Above every interval: a spreadsheet scales its axis to the columns alone."""
    values = [value for title in (UNIT, HIGH)
              for value, at in zip(table.columns[table.place(title)].values, table.currencies, strict=True)
              if at == code and value is not None]
    if not values:
        return None
    step = Decimal(1).scaleb(max(values).adjusted()) / 2
    return float((max(values) // step + 1) * step)


def _dress(chart: Any, title: str, top: float | None = None) -> None:
    chart.set_title({"name": title, "name_font": {"size": 12, "color": INK}, "overlay": False})
    grid = {"visible": True, "line": {"color": RULE}}
    chart.set_y_axis({"min": 0, **({"max": top} if top else {}), "major_gridlines": grid, "line": {"none": True}})
    chart.set_chartarea({"border": {"color": RULE}})


def _block(table: Table, code: str) -> tuple[int, int]:
    """The first and last row of a currency: rows are sorted by it."""
    at = [i for i, one in enumerate(table.currencies) if one == code]
    return table.first + at[0], table.first + at[-1]
