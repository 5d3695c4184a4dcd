"""What the derivations share: the numbers of one item, equation (6) cut at a box, and the certificate at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from convexattack.certificates import Certificate, ExactCertificate
from convexattack.explain.notation import coordinates, marked, n, signed, vector
from convexattack.explain.page import Step
from convexattack.norms import Lp
from convexattack.programs import GN, GNII, MinNorm
from convexattack.sets import Box
from convexattack.sets.record import ball_and_box
from convexattack.solution import Solution, Status

__all__ = [
    "BOX",
    "SEEN",
    "SIGMA",
    "TIGHT",
    "Item",
    "certified",
    "close",
    "cut",
    "dot",
    "each",
    "exponent",
    "length",
    "near",
    "nothing",
    "said",
    "steepest",
]

SEEN = "There is no `η` to look at; the multipliers exclude every one."
BOX = "a_i ≤ η_i ≤ b_i"
SIGMA = "σ(w) = Σ_i (b_i max(w_i, 0) + a_i min(w_i, 0))"
TIGHT = 1e-6  # relative: what is called an equality


@dataclass(frozen=True)
class Item:
    """One program of the linear kinds, as Python floats."""

    L: float
    g: list[float]
    eta: list[float]
    low: list[float]
    high: list[float]
    boxed: bool

    @staticmethod
    def of(program: GN | GNII | MinNorm, solution: Solution) -> Item:
        box = (ball_and_box(program.sets) or (None, None))[1]
        low, high = (bound[0].tolist() for bound in (box or Box(-math.inf, math.inf)).bounds(program.g))
        return Item(float(program.L[0]), program.g[0].tolist(), solution.eta[0].tolist(), low, high, box is not None)

    def support(self, w: Sequence[float]) -> float:
        """σ(w) of the box."""
        return math.fsum(x * (hi if x > 0 else lo) for x, lo, hi in zip(w, self.low, self.high, strict=True) if x)

    def given(self, *rest: str) -> list[str]:
        """The data, with the box if there is one."""
        lines = [",  ".join([f"L = {n(self.L)}", f"g = {vector(self.g)}", *rest])]
        if self.boxed:
            lines.append(f"a = {vector(self.low)},  b = {vector(self.high)}")
        return lines

    def at_bounds(self) -> str:
        """Which coordinates are at a bound, in words."""
        found = [i for i, x in enumerate(self.eta) if x in (self.low[i], self.high[i])]
        if not found:
            return "no coordinate is at a bound"
        names = ", ".join(f"`η_{{{i + 1}}}`" for i in found[:6])
        return f"at their bounds: {names}" + f" and {len(found) - 6} more" * (len(found) > 6)


def length(p: float, x: Sequence[float]) -> float:
    """‖x‖_p."""
    return float(Lp(p)(torch.tensor([list(x)], dtype=torch.float64))[0])


def dot(x: Sequence[float], y: Sequence[float]) -> float:
    """xᵀy."""
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def each(d: int, write: Callable[[int], str]) -> list[str]:
    """A line for each coordinate, but for those that a long vector leaves out."""
    return ["…" if i is None else write(i) for i in coordinates(d)]


def close(a: float, b: float, scale: float) -> bool:
    """Whether a = b, relative to scale."""
    return abs(a - b) <= TIGHT * scale


def near(x: float, scale: float) -> str:
    """A number that should be 0 beside `scale`: ≈ 0 where only rounding keeps it from that."""
    return "0~" if 0 < abs(x) <= 1e-12 * scale else n(x)


def exponent(p: float) -> str:
    """q from p."""
    if p == 1:
        return "1/p + 1/q = 1,  p = 1,  q = ∞"
    if p == math.inf:
        return "1/p + 1/q = 1,  p = ∞,  q = 1"
    return f"1/p + 1/q = 1,  q = p/(p − 1) = {n(p)}/({n(p)} − 1) = {n(p / (p - 1))}"


def steepest(item: Item, r: float, size: float, q: float) -> list[str]:
    """η_i = −r sign(g_i) (|g_i|/‖g‖_q)^{q−1}, equation (6), with numbers; (7) for q = 1."""

    def line(i: int) -> str:
        g = item.g[i]
        share = f"·({n(abs(g))}/{signed(size)})^{{{n(q - 1)}}}"
        worked = f" = {'−' if g > 0 else ''}{n(r)}{share}" * (q > 1 and g != 0)
        return f"η_{{{i + 1}}}{worked} = {n(item.eta[i])}"

    return each(len(item.g), line)


def cut(item: Item, p: float, r: float, mu: float, letters: tuple[str, str]) -> tuple[list[float], list[str]]:
    """η_i = clip(−r sign(g_i)(|g_i|/μ)^{q−1}, a_i, b_i), with numbers; `letters` are those of r and of |g_i|/μ.

    Where g_i = 0 it is the point of the box nearest to 0. For p = 1 a coordinate goes to its bound where |g_i| > μ and
    stays where |g_i| < μ; one with |g_i| = μ takes what is left, which the price alone does not say.
    """
    (radius, price), q = letters, Lp(p).q
    found: list[float] = []
    texts: list[str] = []
    for i, (g, low, high, eta) in enumerate(zip(item.g, item.low, item.high, item.eta, strict=True)):
        name, ends, minus, rest = (
            f"η_{{{i + 1}}}",
            f"{n(low)}, {n(high)}",
            "−" if g > 0 else "",
            min(max(0.0, low), high),
        )
        if g == 0:
            x, text = rest, f"{name} = clip(0, {ends}) = {n(eta)}"
        elif p == 1:
            even = close(abs(g), mu, mu)
            x = eta if even else (low if g > 0 else high) if abs(g) > mu else rest
            text = f"|g_{{{i + 1}}}| {'=' if even else '>' if abs(g) > mu else '<'} μ,  {name} = {n(eta)}"
        else:
            size = r * math.exp((q - 1) * (math.log(abs(g)) - math.log(mu))) if p < math.inf else r
            x = min(max(-size if g > 0 else size, low), high)
            power = f"·({n(abs(g))}/{signed(mu)})^{{{n(q - 1)}}}" if p < math.inf else ""
            text = f"{name} = clip({minus}{n(r)}{power}, {ends}) = {n(eta)}"
        found.append(x)
        texts.append(text)
    power = f" ({price})^{{q−1}}" if p < math.inf else ""
    letter = [f"η_i = clip(−{radius} sign(g_i){power}, a_i, b_i)"] if p > 1 else []
    return found, [*letter, *each(len(texts), lambda i: texts[i])]


def said(status: Status) -> str:
    """The name of a status and its sentence."""
    return f"{status.name}: {marked(status.value)}"


def nothing(status: Status) -> Step:
    """The last step where there is nothing to derive."""
    return Step("No derivation", said(status))


def certified(certificate: Certificate, status: Status, meaning: str, scale: float) -> Step:
    """What the certificate says, and whether the claim is proved."""
    values = {name: float(getattr(certificate, name)[0]) for name in ("primal", "dual", "gap", "violation")}
    numbers = [f"{name} = {near(values[name], scale)}" for name in ("primal", "dual")]
    numbers += [f"{name} = {n(values[name], 2)}" for name in ("gap", "violation")]
    exact = isinstance(certificate, ExactCertificate)
    how = "in exact arithmetic" if exact else "in float64 with every rounding error charged"
    verdict = f"{certificate.verdict[0].name}: " if isinstance(certificate, ExactCertificate) else ""
    words = (
        f"Computed anew from the program, `η` and the multipliers alone, {how}. {meaning} The claim is "
        f"{said(status)} {verdict}{marked(certificate.why[0])}"
    )
    there = not math.isnan(values["primal"])
    return Step("The certificate", words, (",  ".join(numbers),) if there else (), values)
