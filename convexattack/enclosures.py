"""Numbers without floating-point trust: floats as the dyadic rationals they are, roots and powers as balls (Arb, by python-flint).

Sums, differences and products of floats are formed exactly, in balls of radius 0; a root or a power is a ball that contains it, of `bits`
precision. A comparison of balls is True only if it holds for all their points, so that a false answer means "not known to be".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import TypeVar

from flint import arb, ctx, fmpq
from torch import Tensor

__all__ = [
    "Enclosure",
    "Vector",
    "as_float",
    "dot",
    "dual_exponent",
    "exactly",
    "least",
    "length",
    "quotient",
    "rounded",
    "shown",
    "total",
    "vector",
    "within",
]

EXACTLY = 1 << 17  # bits: sums of products of any four floats, each of 2100 bits at most, fit many times over
MOST = 64  # the largest exponent of which powers are formed exactly

Vector = list[arb]
_Answer = TypeVar("_Answer")


def exactly(run: Callable[[], _Answer]) -> _Answer:
    """`run()` with so many bits that sums and products of floats are exact."""
    with ctx.workprec(EXACTLY):
        return run()


def rounded(bits: int, run: Callable[[], _Answer]) -> _Answer:
    """`run()` with balls of `bits` precision."""
    with ctx.workprec(bits):
        return run()


def vector(row: Tensor) -> Vector:
    """The numbers that a row of finite floats is."""
    return [arb(x) for x in row.tolist()]


@dataclass(frozen=True)
class Enclosure:
    """Rational numbers between which a real one lies; equal where it is known exactly, ±∞ where it is infinite or unknown.

    >>> print(Enclosure(Fraction(1, 3), Fraction(1, 3)))
    0.3333333333333333 exactly
    """

    lower: Fraction | float
    upper: Fraction | float

    @staticmethod
    def of(x: arb | None) -> Enclosure:
        """Of a ball; None stands for ∞."""
        if x is None:
            return Enclosure(math.inf, math.inf)
        if not x.is_finite():
            return Enclosure(-math.inf, math.inf)
        return (
            Enclosure(_fraction(x), _fraction(x))
            if x.is_exact()
            else Enclosure(_fraction(x.lower()), _fraction(x.upper()))
        )

    @property
    def width(self) -> Fraction | float:
        """upper − lower, 0 where the number is known exactly."""
        return 0 if self.lower == self.upper else self.upper - self.lower

    def __str__(self) -> str:
        low, high = (as_float(end) for end in (self.lower, self.upper))
        return f"{low!r} exactly" if self.lower == self.upper else f"[{low!r}, {high!r}]"


def _fraction(x: arb) -> Fraction:
    mantissa, exponent = (int(part) for part in x.man_exp())
    return Fraction(mantissa << exponent) if exponent >= 0 else Fraction(mantissa, 1 << -exponent)


def as_float(x: Fraction | float) -> float:
    """The nearest float, ±∞ beyond their range."""
    try:
        return float(x)
    except OverflowError:
        return math.copysign(math.inf, x)


def dual_exponent(p: float) -> int | float | arb:
    """q with 1/p + 1/q = 1, without rounding: an int, ∞, or a ball."""
    if p in (1, math.inf):
        return 1 if p == math.inf else math.inf
    q = Fraction(p) / (Fraction(p) - 1)
    return int(q) if q.denominator == 1 and q <= MOST else arb(fmpq(q.numerator, q.denominator))


def _whole(p: int | float | arb) -> int | float | arb:
    return int(p) if isinstance(p, float) and p.is_integer() and p <= MOST else p


def _powers(x: Iterable[arb], p: int | arb) -> arb:
    """Σ|x_i|^p, exactly for an int p."""
    if isinstance(p, int):
        return exactly(lambda: sum((abs(entry) ** p for entry in x), arb(0)))
    return sum((abs(entry) ** p for entry in x if entry != 0), arb(0))


def length(x: Sequence[arb], p: int | float | arb) -> arb:
    """‖x‖_p of exact numbers: exact for p in {1, ∞} and where the root is, a ball otherwise."""
    p = _whole(p)
    if p == math.inf:
        return reduce(arb.max, (abs(entry) for entry in x), arb(0))
    p = arb(p) if isinstance(p, float) else p
    powers = _powers(x, p)
    if p == 1 or powers == 0:
        return powers
    return powers.sqrt() if p == 2 else powers.root(p) if isinstance(p, int) else powers ** (1 / p)


def within(x: Sequence[arb], p: float, radius: arb) -> bool | None:
    """Whether ‖x‖_p ≤ radius; None where this precision cannot tell. Powers are compared, so an int p is decided exactly."""
    whole = _whole(p)
    entries = [entry for entry in x if entry != 0]
    if whole == math.inf or len(entries) <= 1:
        return bool(length(entries, math.inf) <= radius)
    e = arb(whole) if isinstance(whole, float) else whole
    powers = _powers(entries, e)
    limit = exactly(lambda: radius**e) if isinstance(e, int) else radius**e if radius > 0 else arb(0)
    return True if powers <= limit else False if powers > limit else None


def dot(a: Iterable[arb], b: Iterable[arb], start: arb | None = None) -> arb:
    """start + Σ a_i b_i, exactly for exact numbers."""
    return exactly(lambda: sum((x * y for x, y in zip(a, b, strict=True)), arb(0) if start is None else start))


def total(parts: Iterable[arb | None]) -> arb | None:
    """The sum, exactly for exact numbers; None stands for ∞."""
    found = list(parts)
    return None if None in found else exactly(lambda: sum((part for part in found if part is not None), arb(0)))


def least(numbers: Iterable[arb | None]) -> arb | None:
    """The smallest; None stands for ∞."""
    found = None
    for number in numbers:
        found = number if found is None or (number is not None and number < found) else found
    return found


def quotient(a: arb | None, b: arb | None) -> arb | None:
    """a/b with 0/0 = 0 and a/0 = ∞; None stands for ∞, and a/∞ = 0."""
    if a is not None and a == 0:
        return a
    if b is None:
        return arb(0)
    return None if a is None or b == 0 else a / b


def shown(x: Enclosure) -> str:
    """The upper end in three digits, for a sentence."""
    return f"{as_float(x.upper):.3g}"
