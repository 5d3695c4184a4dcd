"""Random noise: independent signs ±ε, as large as FastGrad's noise and far weaker.

Program. The benchmark of Section IV: η_i = ε or −ε with probability 1/2 each, independently. Every such η is a vertex
of the ball of (GNII) with p = ∞, as the optimum is, but which vertex is left to chance.

Lagrangian, dual and optimum of (GNII): sign.py; gᵀη = −ε‖g‖₁ at best.

How weak. E gᵀη = 0 and Var gᵀη = ε²‖g‖₂², and by Hoeffding's inequality a decrease by τ is found with probability

    P(gᵀη ≤ −τ) ≤ exp(−τ²/(2ε²‖g‖₂²)),

so the typical decrease is ε‖g‖₂. Against ε‖g‖₁ that is 1/√d for entries of equal size.

The check. Every entry of the library's η is ±ε to the bit, in the images' dtype (ε rounded down where it must be, so
that the ball holds in rational numbers). The number of plus signs and of runs of equal signs (which sees a dependence
of neighbours) in units of five standard deviations of the binomial; mean and variance of gᵀη over many draws likewise;
and the share of draws beyond τ against Hoeffding's bound (with five standard deviations again).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch

import convexattack as ca
from verification.claims import Finding, claim

TYPES = {"float64": torch.float64, "float32": torch.float32}
SIGMAS = 5
DIMENSION = 64


@claim(
    "Random has independent entries ±ε with probability 1/2; "
    "gᵀη has mean 0 and deviation ε‖g‖₂, where the optimum is −ε‖g‖₁",
    "Section IV, Random",
    cases=[(eps, dtype) for eps in (0.1, 0.25) for dtype in TYPES],
    small=400,
    full=20_000,
    formulas=(
        r"P(\eta_i=\pm\varepsilon)=\tfrac12,\qquad E\,g^{T}\eta=0,\quad"
        r"\operatorname{Var} g^{T}\eta=\varepsilon^2\|g\|_2^2",
        r"P(g^{T}\eta\le-\tau)\le\exp\Bigl(-\frac{\tau^2}{2\varepsilon^2\|g\|_2^2}\Bigr)",
    ),
)
def check(case: tuple[float, str], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    radius, dtype = case
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    x = torch.zeros(n, DIMENSION, dtype=TYPES[dtype])
    eta = (
        ca.random_sign(radius, generator)(lambda x: x[:, :2], x, torch.zeros(n, dtype=torch.long)).eta.double().numpy()
    )
    where = f"ε = {radius:g}, {dtype}"
    size = float(np.abs(eta[0, 0]))
    nearest = np.float32(radius)
    wanted = (
        radius
        if dtype == "float64"
        else float(nearest if float(nearest) <= radius else np.nextafter(nearest, np.float32(0)))
    )
    wrong = (np.abs(eta) != wanted).any(1) | (Fraction(size) > Fraction(radius))
    yield Finding("entries are ±ε, within the ball in fractions", wrong, 0, where)

    signs = eta > 0
    total = signs.size
    runs = (signs[:, 1:] != signs[:, :-1]).sum()
    by_entry = np.abs(signs.sum(0) - n / 2) / (SIGMAS * math.sqrt(n) / 2)
    yield Finding(
        "binomial: signs, in 5 deviations", abs(signs.sum() - total / 2) / (SIGMAS * math.sqrt(total) / 2), 1, where
    )
    yield Finding("binomial: signs of each entry, in 5 deviations", by_entry, 1, where)
    pairs = n * (DIMENSION - 1)
    yield Finding(
        "binomial: changes of sign, in 5 deviations", abs(runs - pairs / 2) / (SIGMAS * math.sqrt(pairs) / 2), 1, where
    )

    g = rng.standard_normal(DIMENSION)
    reached = eta @ g / (radius * np.linalg.norm(g))
    yield Finding("mean of gᵀη, in 5 deviations", abs(reached.mean()) * math.sqrt(n) / SIGMAS, 1, where)
    kurtosis = 3 - 2 * (g**4).sum() / (g**2).sum() ** 2  # of a sum of signs
    spread = math.sqrt((kurtosis - 1) / n)
    yield Finding("variance of gᵀη, in 5 deviations", abs((reached**2).mean() - 1) / (SIGMAS * spread), 1, where)
    excess = []
    for tau in (0.5, 1.0, 2.0, 3.0):
        bound = math.exp(-(tau**2) / 2)
        excess.append((reached <= -tau).mean() / (bound + SIGMAS * math.sqrt(bound / n)))
    best = np.abs(g).sum() / np.linalg.norm(g)
    said = f"{where}: in units of ε‖g‖₂ FastGrad's decrease is {best:.1f}, the best of {n:,} draws {-reached.min():.1f}"
    yield Finding("Hoeffding's bound, in units of it", excess, 1, where, note=said)
