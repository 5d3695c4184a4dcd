"""Numbers without floating-point trust: floats as the dyadic rationals they are, roots and powers as balls (Arb).

Sums, differences and products of floats are formed exactly, in balls of radius 0; a root or a power is a ball that
contains it, of `bits` precision. A comparison of balls is True only if it holds for all their points, so that a false
answer means "not known to be".
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
    "largest",
    "least",
    "length",
    "minus",
    "quotient",
    "rounded",
    "shown",
    "total",
    "vector",
    "weighed",
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
    """Rational numbers between which a real one lies: equal where it is known exactly, ±∞ where nothing is known.

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
        return math.inf if x > 0 else -math.inf


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
    return sum((abs(entry) ** p for entry in x if not entry.is_zero()), arb(0))


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


def within(x: Sequence[arb], p: float, radius: arb, root: int = 1) -> bool | None:
    """Whether ‖x^{1/root}‖_p ≤ radius, root 2 being for squares x; None where this precision cannot tell.

    Powers are compared, so an int p that `root` divides is decided exactly.
    """
    power = _whole(p)
    entries = [entry for entry in x if not entry.is_zero()]
    if power == math.inf or len(entries) <= 1:
        return _at_most(length(entries, math.inf), exactly(lambda: radius**root))
    if isinstance(power, int):
        limit = exactly(lambda: radius**power)
        return _at_most(_powers(entries, power // root if power % root == 0 else arb(power) / root), limit)
    return _at_most(_powers(entries, arb(power) / root), radius ** arb(power) if radius > 0 else arb(0))


def _at_most(a: arb, b: arb) -> bool | None:
    return True if a <= b else False if a > b else None


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


def largest(numbers: Iterable[arb | None]) -> arb | None:
    """The largest of 0 and these; None stands for ∞."""
    found = arb(0)
    for number in numbers:
        if number is None:
            return None
        found = found.max(number)
    return found


def weighed(x: Sequence[arb], low: Sequence[arb | None], high: Sequence[arb | None]) -> arb | None:
    """Σ of x_i high_i where x_i > 0 and x_i low_i where x_i < 0; None for ∞, and for a sign that is not known."""
    used, edges = [], []
    for a, below, above in zip(x, low, high, strict=True):
        edge = above if a > 0 else below
        if a == 0:
            continue
        if edge is None or not (a > 0 or a < 0):
            return None
        used.append(a)
        edges.append(edge)
    return dot(used, edges)


def minus(a: arb, b: arb) -> arb:
    """a − b, without a rounding of its own where both are exact."""
    return exactly(lambda: a - b)


def quotient(a: arb | None, b: arb | None) -> arb | None:
    """a/b with 0/0 = 0 and a/0 = ∞; None stands for ∞, also for a/∞ of an unknown scale."""
    if a is not None and a == 0:
        return a
    return None if a is None or b is None or b == 0 else a / b


def shown(x: Enclosure) -> str:
    """The upper end in three digits, for a sentence."""
    return f"{as_float(x.upper):.3g}"
