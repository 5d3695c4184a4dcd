"""Equations (2) and (3): the classifier is fooled where L < 0, and what a tie is.

The paper says. k(x) = argmax_l f_l(x) (2), and the classifier is fooled, k(x) ≠ k(x + η), "that is" L(x + η) < 0 with

    L(x + η) = min_{l ≠ k(x)} {f_{k(x)}(x + η) − f_l(x + η)}.                                (3)

This is so except where L(x + η) = 0.

Proof. L(x + η) < 0 says that some l ≠ k has f_l > f_k at x + η, so no argmax is k, whatever it does with ties: fooled.
L(x + η) > 0 says that f_k is the only largest: not fooled. L(x + η) = 0 says that k shares the first place with another
class. Then (2) has more than one value, and k(x) ≠ k(x + η) depends on which one argmax takes: with the first of them,
as in NumPy and PyTorch, on the numbering of the classes.

Counterexample to "that is": f = (0, 0) at x + η. If k(x) is class 2, argmax takes class 1: k(x) ≠ k(x + η) although
L = 0 is not negative. Exchange the classes and k(x) = k(x + η).

Here fooled means L < 0, which does not depend on the numbering; (GN) is strict for the same reason, and
proposition_1_equality.py follows from it. So a perturbation that ends exactly on the boundary, as that of (8) does, is
not counted: min_norm_edge.py.

Program, Lagrangian, dual, optimum. (4) asks for L < 0 with an oracle's L_o > 0, of which nothing is known; (GN)
replaces L by (1) and L_o by ‖η‖_p ≤ ε. From there, proposition_1.py.

The check. Outputs are small integers, so that ties are frequent and exact, and a model that returns x itself makes
f(x + η) any such row. The pieces of the library's margin against (3) by enumeration; `fooled` of an attack with ε = 0
against L < 0, by counting the classes above f_k. Where L ≠ 0, NumPy's argmax must agree with the verdict; where L = 0,
it must depend on the numbering: reversed, argmax takes another class.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import convexattack as ca
from verification.claims import Finding, claim


@claim(
    "k(x) ≠ k(x + η) is the same as L(x + η) < 0 wherever L(x + η) ≠ 0; "
    "at L(x + η) = 0 it depends on the numbering of the classes",
    "Section II, (2), (3)",
    cases=[2, 3, 10],
    small=60,
    full=2000,
    formulas=(
        r"k(x)=\operatorname{argmax}_{l}\, f_l(x)",
        r"L(x+\eta)=\min_{l\ne k(x)}\{f_{k(x)}(x+\eta)-f_l(x+\eta)\}",
        r"L<0\;\Rightarrow\;k(x)\ne k(x+\eta),\qquad L>0\;\Rightarrow\;k(x)=k(x+\eta)",
    ),
    slip="It says that k(x) ≠ k(x + η) “is” L(x + η) < 0, which leaves out the ties L(x + η) = 0.",
)
def check(case: int, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    f = rng.integers(-3, 4, (n, case)).astype(float)
    k = rng.integers(0, case, n)
    output, label = torch.from_numpy(f), torch.from_numpy(k)
    where = f"{case} classes"
    margins = [[row[a] - row[b] for b in range(case) if b != a] for row, a in zip(f, k, strict=True)]
    yield Finding("(3) by enumeration", (ca.margin(output, label).numpy() != np.array(margins)).any(1), 0, where)

    found = ca.algorithm2(0.0)(lambda x: x, output, label)
    beaten = np.array([sum(value > row[a] for value in row) > 0 for row, a in zip(f, k, strict=True)])
    yield Finding("a class above f_k: fooled", found.fooled.numpy() != beaten, 0, where)

    L = np.array([min(row) for row in margins])
    first, last = f.argmax(1), case - 1 - f[:, ::-1].argmax(1)
    yield Finding("argmax where L ≠ 0", ((first != k) != (L < 0)) & (L != 0), 0, where)
    if tied := int((L == 0).sum()):
        said = f"{where}: {tied:,} of {n:,} rows are ties"
        yield Finding("argmax at L = 0: by numbering", (first == last)[L == 0], 0, where, note=said)
