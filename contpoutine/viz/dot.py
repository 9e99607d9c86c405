"""A picture in the language of graphviz, and drawn by it where it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from contpoutine.infer.state_graph import FRONTIER, PRUNED
from contpoutine.viz.picture import Picture
from contpoutine.viz.svg import CHOICE_FILL, EDGE, FILLS, thickness


def is_installed() -> bool:
    """Is graphviz's `dot` there?"""
    return shutil.which("dot") is not None


def source(picture: Picture) -> str:
    """The text of a .dot file."""
    lines = [
        "digraph states {",
        '  node [shape=box, style="rounded,filled", fontname="DejaVu Sans Mono", fontsize=11, '
        f'color="{EDGE}"];',
        f'  edge [fontname="DejaVu Sans Mono", fontsize=10, color="{EDGE}"];',
    ]
    if picture.caption:
        lines.append(f"  label={_quoted(picture.caption)};")
    for i, box in enumerate(picture.boxes):
        style = "rounded,filled,dashed" if box.kind in (FRONTIER, PRUNED) else "rounded,filled"
        fill = FILLS.get(box.kind, CHOICE_FILL)
        label = _quoted("\n".join(box.lines))
        lines.append(f'  {i} [label={label}, style="{style}", fillcolor="{fill}"];')
    for arrow in picture.arrows:
        style = "dashed" if arrow.is_call else "solid"
        lines.append(
            f"  {arrow.source} -> {arrow.target} [label={_quoted(arrow.label)}, style={style}, "
            f"penwidth={thickness(arrow.share):.2f}];"
        )
    return "\n".join([*lines, "}\n"])


def save(picture: Picture, path: Path) -> None:
    """Have graphviz draw it, in the format that the path's suffix says."""
    import subprocess

    form = path.suffix.lstrip(".")
    subprocess.run(
        ["dot", f"-T{form}", "-o", str(path)],
        input=source(picture).encode(),
        check=True,
        capture_output=True,
    )


def _quoted(text: str) -> str:
    """A string as dot reads it: in dot, a backslash would begin an escape of its own."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
