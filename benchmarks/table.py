"""The tables that benchmarks return, as Markdown and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """One table of measurements.

    Args:
        title: heading.
        columns: their headings, with units.
        rows: one cell per column; None is "not measured". Numbers stay numbers: Markdown rounds them.
        notes: one paragraph: what was measured, and how.

    Raises:
        ValueError: a row with more or fewer cells than there are columns.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r} has {len(self.columns)} columns, but a row of {len(row)} cells")

    def to_markdown(self) -> str:
        """A heading of the second level, the notes and the table, padded so that it also reads well as text."""
        numeric = [
            bool(self.rows) and not any(isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))
        ]
        cells = [[_escape(name) for name in self.columns], *([_format(cell) for cell in row] for row in self.rows)]
        widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(self.columns))]
        lines = [
            "| "
            + " | ".join(
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(row, widths, numeric, strict=True)
            )
            + " |"
            for row in cells
        ]
        rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
        lines.insert(1, "| " + " | ".join(rule) + " |")
        notes = [self.notes, ""] if self.notes else []
        return "\n".join([f"## {self.title}", "", *notes, *lines, ""])

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "notes": self.notes,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
        }


def _format(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        # about three significant digits, never an exponent
        decimals = 0 if abs(cell) >= 100 else 1 if abs(cell) >= 10 else 2
        return f"{cell:.{decimals}f}"
    return _escape(str(cell))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
