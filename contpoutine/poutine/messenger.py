"""Messengers, under the name that the seed gives their module."""

from contpoutine.core.messenger import Messenger

__all__ = ["Messenger"]
