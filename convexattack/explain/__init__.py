"""A derivation with the reader's own numbers: program, Lagrangian, dual, optimum, tight inequalities, certificate.

The numbers come from `solve` and `certify`; derived here are words, formulas, and the bound once more, by hand.
"""

from __future__ import annotations

from convexattack.judged import certify
from convexattack.explain import linear, min_norm, operator_norm
from convexattack.explain.page import FORMATS, Explanation, Step
from convexattack.programs import GN, GNII, MinNorm, OperatorNorm, Program
from convexattack.sets import Ball, Box
from convexattack.solvers import solve

__all__ = ["FORMATS", "Explanation", "Step", "explain"]


def explain(program: Program | OperatorNorm, i: int = 0) -> Explanation:
    """Derive the solution of item i of a program, step by step, with its numbers.

    Args:
        program: (GN) or (GNII) over a ball, a box, or a ball and a box; (8), with a box or not; (9) with its Jacobian.
        i: which of its N items.

    Returns:
        An `Explanation`: `print` it, or take its `markdown()` or `latex()`.

    Raises:
        ValueError: other sets, or a Jacobian known by its products only.
        TypeError: something that is none of the four programs.
        IndexError: no such item.

    >>> import torch, convexattack as ca
    >>> program = ca.GNII(torch.tensor([1.0]), torch.tensor([[3.0, 4.0]]), (ca.Ball(ca.Lp(2), 0.5),))
    >>> print(explain(program).steps[2].formulas[-1])
    L + gᵀη ≥ L − ε‖g‖_{2} = 1 − 0.5·5 = −1.5
    """
    if not isinstance(program, GN | GNII | MinNorm | OperatorNorm):
        raise TypeError(f"program must be a ca.GN, GNII, MinNorm or OperatorNorm, got {type(program).__name__}")
    if not -len(program) <= i < len(program):
        raise IndexError(f"i must be in [0, {len(program)}), got {i}")
    if isinstance(program, OperatorNorm):
        if not program.explicit:
            raise ValueError(
                "jacobian is matrix-free, so there are no entries to show; "
                "build ca.OperatorNorm(ca.jacobian(model, x), ball)"
            )
    else:
        kinds = [type(item) for item in program.sets]
        if kinds not in ([], [Box]) and (isinstance(program, MinNorm) or kinds not in ([Ball], [Ball, Box])):
            names = ", ".join(kind.__name__ for kind in kinds)
            raise ValueError(
                f"sets ({names}) have no derivation here: give a Ball (not with MinNorm), then at most one Box"
            )
    k = i % len(program)
    one = program[k : k + 1]
    solution = solve(one)
    certificate = certify(one, solution, exact=True)
    if isinstance(one, OperatorNorm):
        title, steps = "(9): the largest change of the outputs", operator_norm.explain(one, solution, certificate)
    elif isinstance(one, MinNorm):
        title, steps = "(8): the smallest perturbation", min_norm.explain(one, solution, certificate)
    elif isinstance(one, GN):
        title, steps = "(GN): is there an adversarial perturbation?", linear.explain(one, solution, certificate)
    else:
        assert isinstance(one, GNII)
        title, steps = "(GNII): the best perturbation", linear.explain(one, solution, certificate)
    return Explanation(title, tuple(steps), solution.status[0], solution, certificate)
