"""A derivation with the reader's own numbers: program, Lagrangian, dual, optimum, tight inequalities, certificate.

The numbers come from `solve` and `certify`; derived here are words, formulas, and the bound once more, by hand.
"""

from __future__ import annotations

from collections.abc import Iterator

from convexattack.certificates import Certificate
from convexattack.explain import general, linear, min_norm, operator_norm
from convexattack.explain.page import FORMATS, Explanation, Step
from convexattack.judged import certify
from convexattack.programs import GN, GNII, MinNorm, OperatorNorm, Program
from convexattack.sets.record import ball_and_box
from convexattack.solution import Solution
from convexattack.solvers import solve

__all__ = ["FORMATS", "Explanation", "Step", "explain"]


def explain(program: Program | OperatorNorm, i: int = 0) -> Explanation:
    """Derive the solution of item i of a program, step by step, with its numbers.

    Args:
        program: (GN), (GNII), (8) or a sum of hinges over any sets, or (9) with its Jacobian. A ball, a box, or both
            (for (8) a box) have a derivation of their own, other sets a general one.
        i: which of its N items.

    Returns:
        An `Explanation`: `print` it, or take its `markdown()` or `latex()`.

    Raises:
        ValueError: a Jacobian known by its products only.
        TypeError: something that is no program.
        IndexError: no such item.

    >>> import torch, convexattack as ca
    >>> program = ca.GNII(torch.tensor([1.0]), torch.tensor([[3.0, 4.0]]), (ca.Ball(ca.Lp(2), 0.5),))
    >>> print(explain(program).steps[2].formulas[-1])
    L + gᵀη ≥ L − ε‖g‖_{2} = 1 − 0.5·5 = −1.5
    """
    if not isinstance(program, Program | OperatorNorm):
        raise TypeError(
            f"program must be a ca.GN, GNII, MinNorm, HingeSum or OperatorNorm, got {type(program).__name__}"
        )
    if not -len(program) <= i < len(program):
        raise IndexError(f"i must be in [0, {len(program)}), got {i}")
    if isinstance(program, OperatorNorm) and not program.explicit:
        raise ValueError(
            "jacobian is matrix-free, so there are no entries to show; "
            "build ca.OperatorNorm(ca.jacobian(model, x), ball)"
        )
    k = i % len(program)
    one = program[k : k + 1]
    solution = solve(one)
    try:
        certificate: Certificate = certify(one, solution, exact=True)
    except ValueError:  # a set that is not known exactly
        certificate = certify(one, solution)
    title, steps = _derived(one, solution, certificate)
    return Explanation(title, tuple(steps), solution.status[0], solution, certificate)


def _derived(one: Program | OperatorNorm, solution: Solution, certificate: Certificate) -> tuple[str, Iterator[Step]]:
    """The title, and the derivation: one of its own for a ball and a box, the general one for other sets."""
    if isinstance(one, OperatorNorm):
        return "(9): the largest change of the outputs", operator_norm.explain(one, solution, certificate)
    pair = ball_and_box(one.sets)
    title = {
        GN: "(GN): is there an adversarial perturbation?",
        GNII: "(GNII): the best perturbation",
        MinNorm: "(8): the smallest perturbation",
    }.get(type(one), "Many scores at once: the sum of what is missed")
    if isinstance(one, MinNorm) and pair is not None and pair[0] is None:
        return title, min_norm.explain(one, solution, certificate)
    if isinstance(one, GN | GNII) and pair is not None and one.sets:
        return title, linear.explain(one, solution, certificate)
    return title, general.explain(one, solution, certificate)
