"""The results as a table: a block for each case, a line for each system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .runner import Result

HEADER = ("system", "time", "µs a branch", "ratio")


def duration(seconds: float) -> str:
    """Three digits and the unit that suits them."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{three_digits(seconds / scale)} {unit}"
    return f"{seconds * 1e6:.2f} µs"


def three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:,.0f}"
    if number >= 9.995:
        return f"{number:.1f}"
    return f"{number:.2f}" if number >= 0.0995 or number == 0.0 else f"{number:.2g}"


def block(result: Result) -> Iterator[str]:
    tree = result.census
    yield f"**{result.case.label}** ({tree.leaves:,} leaves, {tree.branches:,} branches)"
    yield ""
    rows = [
        (
            timing.system + ("" if len(timing.seconds) > 1 else " (one run)"),
            duration(timing.median),
            three_digits(result.microseconds_per_branch(timing)),
            three_digits(timing.ratio),
        )
        for timing in result.timings
    ]
    widths = [max(len(row[i]) for row in [HEADER, *rows]) for i in range(len(HEADER))]
    yield line(HEADER, widths)
    yield (
        "|"
        + "|".join(("-" * (width + 2))[:-1] + (":" if i else "-") for i, width in enumerate(widths))
        + "|"
    )
    for row in rows:
        yield line(row, widths)
    yield ""


def line(cells: Iterable[str], widths: list[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return "| " + " | ".join(padded) + " |"


def table(results: Iterable[Result]) -> str:
    """The whole of it, as text that is Markdown too."""
    title = "Medians of paired runs; a ratio is to the first line of its block.\n"
    return "\n".join([title, *(text for result in results for text in block(result))])
