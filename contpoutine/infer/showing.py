"""How numbers and values look in the tables that posteriors print."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_VALUE_WIDTH = 40


def number(p: float) -> str:
    """A probability in at most eight characters, never with fewer than three digits.

    >>> number(0.25), number(0.00125), number(1e-7), number(0.0), number(1.0)
    ('0.2500', '0.00125', '1e-07', '0', '1.0000')
    """
    return f"{p:.4f}" if p >= 0.01 else f"{p:.3g}"


def log_number(x: float) -> str:
    """A log-probability; what differs from 0 by rounding is 0.

    >>> log_number(-1.23456789), log_number(1e-17), log_number(-0.0)
    ('-1.23457', '0', '0')
    """
    return "0" if abs(x) < 1e-13 else f"{x:.6g}"


def percent(p: float) -> str:
    """A share, with more digits near none and near all, and never rounded to either.

    >>> percent(0.5), percent(0.99999), percent(1.0), percent(0.00001)
    ('50.0%', '99.9990%', '100%', '0.0010%')
    """
    if p in (0.0, 1.0):
        return f"{p:.0%}"
    if 0.001 <= p <= 0.999:
        return f"{p:.1%}"
    text = f"{p:.4%}"
    return {"100.0000%": ">99.9999%", "0.0000%": "<0.0001%"}.get(text, text)


def part(p: float) -> str:
    """The share of a part, which is neither none nor all, whatever rounding has made of it.

    >>> part(0.25), part(1.0), part(0.0)
    ('25.0%', '>99.9999%', '<0.0001%')
    """
    return percent(min(max(p, 1e-9), 1.0 - 1e-9))


def bar(share: float, width: int = 24) -> str:
    """A bar of `share` of `width` characters.

    >>> bar(0.5, 4), bar(0.03125, 4)
    ('██', '▏')
    """
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def value(x: Any) -> str:
    """A value on one line, cut where it is long.

    >>> value("a"), value(list(range(100)))
    ("'a'", '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,…')
    """
    text = " ".join(repr(x).split())
    return text if len(text) <= _VALUE_WIDTH else text[: _VALUE_WIDTH - 1].rstrip() + "…"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as aligned lines.

    >>> columns([["a", "1"], ["bcd", "2"]])
    ['a    1', 'bcd  2']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return [
        "  ".join([cell.ljust(w) for cell, w in zip(row, widths, strict=True)]).rstrip()
        for row in rows
    ]


def html_table(caption: str, rows: Sequence[tuple[str, str, float]], note: str = "") -> str:
    """A small table: what, its number, and a bar of that share."""
    lines = [
        "<tr>"
        f'<td style="text-align:left"><code>{html.escape(what)}</code></td>'
        f'<td style="text-align:right">{html.escape(shown)}</td>'
        '<td style="text-align:left;width:12em">'
        f'<div style="background:#4c72b0;height:0.9em;width:{max(0.0, min(1.0, share)):.2%}">'
        "</div></td></tr>"
        for what, shown, share in rows
    ]
    below = f"<p><em>{html.escape(note)}</em></p>" if note else ""
    head = f'<caption style="text-align:left">{html.escape(caption)}</caption>'
    return f"<table>{head}{''.join(lines)}</table>{below}"
