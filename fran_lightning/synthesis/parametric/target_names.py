"""Names of shape targets that come in pairs: a decrease and an increase, and one for either side of the face.

Sided targets are named with ``{}``, which stands for l and r.
"""

from __future__ import annotations


def sided(name: str) -> list[str]:
    """The names that ``name`` stands for: two if it is sided, else itself."""
    return [name.format(side) for side in "lr"] if "{}" in name else [name]


def signed(pair: tuple[str, str], amount: float) -> tuple[str, float]:
    """The target of a pair (decrease, increase) that a signed ``amount`` calls for, and its weight."""
    return (pair[1], amount) if amount >= 0 else (pair[0], -amount)
