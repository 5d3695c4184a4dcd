"""One score to lower or to raise: Algorithm 2, and the attacks on anomaly detection and monitoring.

The paper says (Section III) that to "maximize the false positives and/or false negatives" is of "the same nature as
Algorithm 2", where "a single score function is the subject of minimization or maximization"; and Algorithm 2 is (GNII)
with L ≈ f_k (Section IV).

Program. For a score s and an alarm at s > τ: a false negative lowers L = s − τ, a false positive L = τ − s,

    minimize  ±(s(x) − τ) ± ηᵀ∇s   subject to  ‖η‖_p ≤ ε.

Lagrangian, dual, optimum: proposition_2.py with g = ±∇s. The least linear score is s − ε‖∇s‖_q and the largest
s + ε‖∇s‖_q; the two η are opposite; and τ, a constant, moves the value and leaves η alone. (GN) says whether the linear
score can cross the alarm: |s − τ| < ε‖∇s‖_q.

Algorithm 2 is the first of the two for s = f_k. The paper notes that L < 0 then does not say that the network is
fooled: f_k < 0 is neither necessary nor sufficient for another class to lead. (Logits: probabilities.py.)

The check. s is the reconstruction error ‖a(x) − x‖²/d of the shipped autoencoder, with ∇s = (2/d)(J_a − I)ᵀ(a(x) − x)
from a pass through its layers in NumPy; and f_k of the shipped classifier. Both directions, several norms: η against
(6) in NumPy, the value against s ∓ ε‖∇s‖_q, η for another τ, and the verdict of (GN) against |s − τ| < ε‖∇s‖_q.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

import convexattack as ca
from convexattack import datasets, models
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import word

Array = NDArray[np.float64]
SAME = 1e-9
RADIUS = 0.1


@claim(
    "one score s is lowered to s − ε‖∇s‖_q and raised to s + ε‖∇s‖_q by opposite η, whatever the alarm; "
    "with s = f_k that is Algorithm 2",
    "Section III, anomaly detection; Section IV, Algorithm 2",
    cases=[(p, kind) for p in (1.5, 2.0, math.inf) for kind in ("reconstruction error", "Algorithm 2")],
    small=24,
    full=360,
    formulas=(
        r"\min_{\|\eta\|_p\le\varepsilon}\pm\bigl(s+\eta^{T}\nabla s-\tau\bigr)=\pm(s-\tau)-\varepsilon\|\nabla s\|_q",
        r"\text{Algorithm 2:}\quad s=f_{k(x)}",
    ),
)
def check(case: tuple[float, str], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, kind = case
    q = 1.0 if p == math.inf else p / (p - 1)
    images = datasets.load("digits")
    x = images.x[torch.from_numpy(rng.permutation(len(images))[:n])].double()
    network = models.load("digits-autoencoder" if kind != "Algorithm 2" else "digits").double()
    weights = [w.detach().numpy() for w in network.parameters()]
    if kind != "Algorithm 2":  # no ReLU around its code: the second and the third layer are one
        A, a, B, b, C, c, *last = weights
        weights = [A, a, C @ B, C @ b + c, *last]
    pairs = [(_error if kind != "Algorithm 2" else _top)(row, weights) for row in x.flatten(1).numpy()]
    s, slope = np.array([a for a, _ in pairs]), np.stack([b for _, b in pairs])
    size = np.linalg.norm(slope, q, axis=1)
    step = RADIUS * np.sign(slope) * np.abs(slope) ** (q - 1) / size[:, None] ** (q - 1)
    where, norm = f"{word(p)}, {kind}", ca.Lp(p)
    if kind == "Algorithm 2":
        found = ca.algorithm2(RADIUS, norm)(network, x)
        yield Finding("(6) with ∇f_k, in NumPy", _apart(found.eta, -step), SAME, where)
        lin = ca.linearize(network, x, loss=ca.class_score)
        reached = (lin.value + (lin.gradient[:, 0] * found.eta.flatten(1)).sum(1, keepdim=True))[:, 0].numpy()
        yield Finding(
            "NumPy: the least linear score",
            np.abs(reached - (s - RADIUS * size)) / (np.abs(s) + RADIUS * size),
            SAME,
            where,
        )
        beaten = (found.loss < 0).numpy() & ~found.fooled.numpy()
        said = f"{where}: {int(found.fooled.sum())} of {n} fooled; f_k < 0 and not fooled on {int(beaten.sum())}"
        yield Finding("f_k at x + η, in NumPy", _score_apart(x, found, weights), SAME, where, note=said)
        return
    score = ca.reconstruction_error(network)
    alarm = s * rng.uniform(0.3, 1.7, n)
    tau = torch.from_numpy(alarm)
    for loss, sign in ((ca.below, 1.0), (ca.above, -1.0)):
        found = ca.algorithm1(RADIUS, norm, loss=loss(tau))(score, x)
        again = ca.algorithm1(RADIUS, norm, loss=loss(0.0))(score, x)
        yield Finding("(6) with ±∇s, in NumPy", _apart(found.eta, -sign * step), SAME, where)
        yield Finding("another alarm, the same η", _apart(again.eta, found.eta.flatten(1).numpy()), SAME, where)
        value, gradient = ca.linearize(score, x, loss=loss(tau)).flat()
        reached = (value + (gradient * found.eta.flatten(1)).sum(1)).numpy()
        wanted = sign * (s - alarm) - RADIUS * size
        yield Finding(
            "NumPy: the least and largest linear score",
            np.abs(reached - wanted) / (np.abs(s) + RADIUS * size),
            SAME,
            where,
        )
        status = ca.solve(ca.GN(value, gradient, (ca.Ball(norm, RADIUS),))).status
        clear = np.abs(wanted) > SAME * np.abs(s)
        yield Finding(
            "NumPy: whether it can cross the alarm", ((status == ca.Status.FEASIBLE) != (wanted < 0)) & clear, 0, where
        )


def _error(x: Array, weights: list[Array]) -> tuple[float, Array]:
    """‖a(x) − x‖²/d and its gradient."""
    there, J, _ = oracles.network(x, weights)
    rest = there - x
    return float(rest @ rest) / len(x), 2 / len(x) * (J.T @ rest - rest)


def _top(x: Array, weights: list[Array]) -> tuple[float, Array]:
    """f_k and its gradient."""
    f, J, _ = oracles.network(x, weights)
    return float(f.max()), J[int(f.argmax())]


def _apart(eta: torch.Tensor, wanted: Array) -> Array:
    return np.asarray(np.abs(eta.flatten(1).numpy() - wanted).max(1) / RADIUS)


def _score_apart(x: torch.Tensor, found: ca.Perturbation, weights: list[Array]) -> list[float]:
    """found.loss against f_k(x + η)."""
    there = (x + found.eta).flatten(1).numpy()
    f = [oracles.network(row, weights)[0] for row in there]
    rows = zip(f, found.label.tolist(), found.loss.tolist(), strict=True)
    return [float(abs(row[k] - loss) / np.abs(row).max()) for row, k, loss in rows]
