"""Every snippet of the README runs, in order, and prints what the README says it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def snippets() -> list[tuple[int, str, str]]:
    """(line number, code, expected output) of each Python block and the text block after it."""
    text = README.read_text(encoding="utf-8")
    blocks = [(text[: m.start()].count("\n") + 2, m[1], m[2]) for m in BLOCK.finditer(text)]
    found = []
    for (line, kind, code), (_, after, output) in zip(blocks, [*blocks[1:], (0, "", "")]):
        if kind == "python":
            found.append((line, code, output if after == "text" else ""))
    return found


def test_the_readme_has_snippets():
    assert len(snippets()) >= 8


def test_every_snippet_prints_what_the_readme_says(tmp_path):
    namespace: dict[str, object] = {"__name__": "readme"}
    for line, code, expected in snippets():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + code, str(README), "exec"), namespace)
        if printed.getvalue().rstrip() != expected.rstrip():
            pytest.fail(f"README.md:{line} prints\n{printed.getvalue()}")
