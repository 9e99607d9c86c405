"""Packing: each dimension of a log-probability gets a letter, and dimensions of size one go.

Plates have the even letters, in the order in which they are met, and enumerated sites the odd
ones, by their ids. A packed tensor carries its letters in `_pyro_dims`, so that tensors of
different sites can be multiplied and summed out by letter, as in an `einsum`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contpoutine.distributions.content import is_tensor
from contpoutine.errors import ShapeError

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter(number: int) -> str:
    """The letter of that number: a to z, A to Z, and then characters from U+00C0 on.

    >>> letter(0), letter(51), letter(52)
    ('a', 'Z', '\xc0')
    """
    return _LETTERS[number] if number < len(_LETTERS) else chr(number + 140)


def symbols_of(node: Mapping[str, Any], plates: dict[str, str]) -> dict[int, str]:
    """The letter of each dimension of a site; new plates get theirs in `plates`."""
    symbols = {}
    for frame in node["cond_indep_stack"]:
        if frame.dim is not None:
            symbols[frame.dim] = plates.setdefault(frame.name, letter(2 * len(plates)))
    for dim, number in node["infer"].get("_dim_to_id", {}).items():
        symbols[dim] = letter(1 + 2 * number)
    return symbols


def pack(value: Any, symbols: Mapping[int, str]) -> Any:
    """A tensor without its dimensions of size one; what is no tensor as it is.

    Raises:
        ShapeError: a dimension has a size and no letter.
    """
    if not is_tensor(value):
        return value
    shape = tuple(value.shape)
    dims = [dim - len(shape) for dim, size in enumerate(shape) if size > 1]
    unknown = [dim for dim in dims if dim not in symbols]
    if unknown:
        raise ShapeError(
            f"a tensor of shape {shape} has entries at dim {unknown[0]}, which belongs to no plate "
            f"and no enumerated site (those have {sorted(symbols) or 'none'}). Entries of one draw "
            f"are an event: `.to_event(1)`."
        )
    packed = value.squeeze()
    packed._pyro_dims = "".join(symbols[dim] for dim in dims)
    return packed
