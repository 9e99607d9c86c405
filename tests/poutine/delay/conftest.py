"""Fixtures of the tests of delayed sampling: those of the other handlers."""

from __future__ import annotations

from tests.poutine.conftest import capture, clean_stack

__all__ = ["capture", "clean_stack"]
