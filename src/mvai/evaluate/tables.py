"""Tables of results as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """One column of a Markdown table."""

    head: str
    key: str
    """Key of its value in a row."""
    decimals: int | None = None
    """Decimals of numbers; None for text."""


def cell(value: Any, decimals: int | None) -> str:
    """A value as it stands in a table; a dash for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if decimals is None:
        return str(value).replace("|", "\\|").replace("\n", " ")
    return f"{value:.{decimals}f}"


def markdown_table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table; numbers stand on the right. A row may lack values."""
    heads = "| " + " | ".join(c.head for c in columns) + " |"
    rule = "|" + "|".join("---" if c.decimals is None else "--:" for c in columns) + "|"
    lines = [
        "| " + " | ".join(cell(row.get(c.key), c.decimals) for c in columns) + " |" for row in rows
    ]
    return "\n".join([heads, rule, *lines]) + "\n"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with all keys in order of their first appearance; full precision."""
    keys = list(dict.fromkeys(k for row in rows for k in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
