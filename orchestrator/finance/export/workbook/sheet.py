"""One sheet with a table: title, frozen header, typed columns, a total a currency, ready to print.

Every formula carries the value it gives, so that a viewer that does not calculate shows it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from orchestrator.finance.export.figures import SYMBOLS, places

_TITLE = re.compile(r"\[([^\]]+)\]")
ColumnKind = Literal["text", "count", "number", "money", "share", "date"]
HEADER = 3
"""The row of the headings, counted from 0; data begin below."""
INK, ACCENT, SOFT, RULE = "#1F2933", "#1F4E79", "#F1F5F9", "#CBD5E1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`values` one a row; of money, exact amounts. `formula` is written where the value is known, with `[title]` for
    the cell of that column in the same row. `total`: the sheet sums it up. `hidden` columns feed charts. Where a value
    is None, `blank` is said, or the row's own of `blanks`. `least` is one a row: whether the amount is to be read as
    "at least" so much, which its number format says."""

    title: str
    kind: ColumnKind
    values: Sequence[Any]
    formula: str = ""
    total: bool = False
    width: float | None = None
    hidden: bool = False
    blank: str = "unknown"
    blanks: Sequence[str] = ()
    least: Sequence[bool] = ()

    def shown(self, row: int) -> Any:
        """Its value in `row`, counted from 0, or what is said in its place."""
        value = self.values[row]
        return value if value is not None else self.blanks[row] if self.blanks else self.blank

    def is_least(self, row: int) -> bool:
        """`row` counted from 0."""
        return bool(self.least) and self.least[row]


@dataclass(slots=True)
class Formats:
    """Cell formats, made once each: a workbook holds few of them."""

    book: Any
    made: dict[tuple[tuple[str, Any], ...], Any] = field(default_factory=dict)

    def get(self, **wanted: Any) -> Any:
        key = tuple(sorted(wanted.items()))
        if key not in self.made:
            self.made[key] = self.book.add_format({"font_color": INK, "valign": "vcenter", **wanted})
        return self.made[key]


def money_format(code: str, decimals: int, *, least: bool = False) -> str:
    """A dash for zero: what is unknown is said in words, and `least` where there is more to the sum than is known."""
    number = f"#,##0.{'0' * decimals}"
    whole = f"{SYMBOLS[code]}{number}" if code in SYMBOLS else f'{number} "{code}"'
    said = '"at least "' if least else ""
    return f'{said}{whole};{said}-{whole};{said}"-"'


NUMBERS: Mapping[str, str] = {"count": "#,##0", "number": "#,##0.0", "share": "0.0%", "date": "yyyy-mm-dd"}


@dataclass(slots=True)
class Table:
    """A table as it stands on its sheet: where its columns and its totals are, for formulas elsewhere.

    `currencies` one a row, parallel to the columns' values; empty where the rows are of no currency.
    """

    name: str
    columns: Sequence[Column]
    currencies: Sequence[str | None] = ()

    @property
    def rows(self) -> int:
        return len(self.columns[0].values)

    @property
    def first(self) -> int:
        """The first row of data, as formulas count."""
        return HEADER + 2

    @property
    def last(self) -> int:
        return HEADER + 1 + self.rows

    @property
    def codes(self) -> list[str]:
        return sorted({code for code in self.currencies if code})

    def letter(self, title: str) -> str:
        from xlsxwriter.utility import xl_col_to_name

        return str(xl_col_to_name(self.place(title)))

    def place(self, title: str) -> int:
        return next(i for i, one in enumerate(self.columns) if one.title == title)

    def span(self, title: str, first: int | None = None, last: int | None = None) -> str:
        """`'By model'!$H$5:$H$9`, for charts and formulas on other sheets."""
        letter = self.letter(title)
        return f"'{self.name}'!${letter}${first or self.first}:${letter}${last or self.last}"

    def total_cell(self, title: str, code: str) -> str:
        return f"'{self.name}'!{self.letter(title)}{self.last + 2 + self.codes.index(code)}"

    def total(self, title: str, code: str) -> Decimal:
        """What the total of that currency is."""
        column = self.columns[self.place(title)]
        pairs = zip(column.values, self.currencies, strict=True)
        return sum((value for value, at in pairs if at == code and value is not None), Decimal(0))

    def total_is_least(self, title: str, code: str) -> bool:
        """Is an amount missing from the total of that currency."""
        column = self.columns[self.place(title)]
        return any(column.is_least(i) for i, at in enumerate(self.currencies) if at in (code, None, ""))

    def formula(self, column: Column, row: int) -> str:
        """That of a cell in `row`, as formulas count."""
        return _TITLE.sub(lambda found: f"{self.letter(found[1])}{row}", column.formula)


def write_table(book: Any, formats: Formats, table: Table, *, title: str, words: str) -> Any:
    """Lay the sheet out; returns it, for charts to be put below or beside."""
    sheet = book.add_worksheet(table.name)
    decimals = _decimals(table)
    sheet.hide_gridlines(2)
    sheet.set_default_row(18)
    sheet.set_row(0, 26)
    sheet.write_string(0, 0, title, formats.get(bold=True, font_size=16, font_color=ACCENT))
    sheet.write_string(1, 0, words, formats.get(font_color="#52606D", italic=True))
    sheet.set_row(HEADER, 16 * max(2, *(_lines(column.title, column.width or _width(column, decimals[column.title]))
                                       for column in table.columns if not column.hidden), 1) + 2)
    for at, column in enumerate(table.columns):
        _write_column(sheet, formats, table, at, column, decimals)
    if table.codes and any(column.total for column in table.columns):
        _write_totals(sheet, formats, table, decimals)
    sheet.freeze_panes(HEADER + 1, 1)
    if table.rows:
        sheet.autofilter(HEADER, 0, HEADER + table.rows, len(table.columns) - 1)
    printed(sheet)
    sheet.repeat_rows(HEADER)
    return sheet


def printed(sheet: Any) -> None:
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)
    sheet.set_margins(left=0.5, right=0.5, top=0.6, bottom=0.6)
    sheet.set_footer("&L&A&RPage &P of &N")


def _decimals(table: Table) -> dict[str, int]:
    """The same for all columns that are summed up, so that they can be compared by eye."""
    summed = places(value for column in table.columns if column.total for value in column.values)
    return {c.title: summed if c.total else places(c.values) if c.kind == "money" else 2 for c in table.columns}


def _write_column(
    sheet: Any, formats: Formats, table: Table, at: int, column: Column, decimals: Mapping[str, int]
) -> None:
    right = column.kind not in ("text", "date")
    sheet.write_string(HEADER, at, column.title, formats.get(
        bold=True, font_color="#FFFFFF", bg_color=ACCENT, text_wrap=True, align="right" if right else "left",
        indent=0 if right else 1,
    ))
    for i in range(len(column.values)):
        code = table.currencies[i] if table.currencies else None
        look = _look(column, code, decimals[column.title], least=column.is_least(i))
        formula = table.formula(column, HEADER + 2 + i)
        write(sheet, HEADER + 1 + i, at, column.shown(i), formats.get(**look), formula)
    sheet.set_column(at, at, column.width or _width(column, decimals[column.title]), None,
                     {"hidden": True} if column.hidden else {})


def write(sheet: Any, row: int, at: int, value: Any, form: Any, formula: str = "") -> None:
    """One cell. Text is always a string cell: never a formula, whatever it begins with."""
    if isinstance(value, str):
        sheet.write_string(row, at, value, form)
    elif formula:
        sheet.write_formula(row, at, formula, form, as_number(value))
    elif isinstance(value, date):
        sheet.write_datetime(row, at, value, form)
    else:
        sheet.write_number(row, at, as_number(value), form)


def as_number(value: Decimal | float) -> float:
    """As a spreadsheet holds it: in binary floating point, good for fifteen digits."""
    return value if isinstance(value, int) else float(value)


def _look(column: Column, code: str | None, decimals: int, *, least: bool) -> dict[str, Any]:
    rule = {"bottom": 1, "bottom_color": RULE}
    if column.kind == "text":
        return {**rule, "align": "left", "indent": 1, "text_wrap": bool(column.width and column.width > 40)}
    money = column.kind == "money" and code
    number = money_format(code or "", decimals, least=least) if money else NUMBERS.get(column.kind)
    side = "left" if column.kind == "date" else "right"
    return {**rule, "num_format": number or f"#,##0.{'0' * decimals}", "align": side}


def _lines(title: str, width: float) -> int:
    """How many lines a bold heading takes in a column so wide."""
    lines, room = 1, width - 3
    left = room
    for word in title.split():
        if len(word) > left and left < room:
            lines, left = lines + 1, room
        left -= len(word) + 1
    return lines


def _width(column: Column, decimals: int) -> float:
    longest_word = max(map(len, column.title.split())) + 3  # a heading wraps between words, beside a filter's button
    if column.kind == "text":
        longest = max((len(str(value)) for value in column.values), default=0)
        return min(max(longest, len(column.title), 8) + 2, 44)
    if column.kind == "money":
        most = max((len(f"{v:,.{decimals}f}") for v in column.values if v is not None), default=0)
        words = max((len(column.blanks[i]) + 2 for i, v in enumerate(column.values) if v is None and column.blanks),
                    default=0)
        return max(most + (12 if any(column.least) else 4), longest_word, words, 12)
    return max(11, min(len(column.title), 12), longest_word)


def _write_totals(sheet: Any, formats: Formats, table: Table, decimals: Mapping[str, int]) -> None:
    """Below a blank row, so that the filter leaves them alone: one row a currency."""
    codes = table.letter("currency")
    for i, code in enumerate(table.codes):
        row = table.last + 1 + i
        look = {"bold": True, "top": 1, "top_color": ACCENT, "bg_color": SOFT}
        for at, column in enumerate(table.columns):
            letter = table.letter(column.title)
            if column.total and column.kind == "money":
                formula = (f"=SUMIF({codes}{table.first}:{codes}{table.last},\"{code}\","
                           f"{letter}{table.first}:{letter}{table.last})")
                number = money_format(
                    code, decimals[column.title], least=table.total_is_least(column.title, code)
                )
                form = formats.get(**look, num_format=number, align="right")
                sheet.write_formula(row, at, formula, form, as_number(table.total(column.title, code)))
            else:
                words = f"Total, {code}" if at == 0 else code if column.title == "currency" else ""
                sheet.write_string(row, at, words, formats.get(**look))
