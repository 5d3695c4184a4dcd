"""The paper's statements: each numbered equation, proposition, remark and claimed special case, and who checks it.

A definition or a figure has no claim of its own; its row says so, and why.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STATEMENTS", "Statement"]


@dataclass(frozen=True)
class Statement:
    """A statement of the paper.

    Attributes:
        where: its number, or its place.
        text: what it says.
        claims: who checks it: names in `CLAIMS`.
        note: why nobody does, where `claims` is empty.
    """

    where: str
    text: str
    claims: tuple[str, ...] = ()
    note: str = ""


STATEMENTS = (
    Statement("(1)", "f(x + η) ≈ f(x) + J_f(x)η", ("linearization",)),
    Statement("(2)", "k(x) = argmax f_l(x), and f has unit ℓ1 norm", ("fooled", "probabilities")),
    Statement("(3)", "the classifier is fooled where L(x + η) < 0", ("fooled",)),
    Statement(
        "(4)", "find η with L < 0 and L_o > 0", note="the oracle's L_o is not known: the paper replaces it by ‖η‖_p ≤ ε"
    ),
    Statement("Section II", "L(x + η) ≈ L(x) + ηᵀ∇L(x) for the minimum L", ("pieces",)),
    Statement("(GN)", "L + ηᵀ∇L < 0 and ‖η‖_p ≤ ε is convex and can be decided", ("near_ties", "certified")),
    Statement("Section II", "the dual of ‖·‖_p is ‖·‖_q, q = p/(p − 1)", ("dual_norm",)),
    Statement(
        "Proposition 1, (5)",
        "(GN) is infeasible if ε‖∇L‖_q < L",
        ("proposition_1", "proposition_1_equality", "near_ties"),
    ),
    Statement("Section II", "η has at least the norm L/‖∇L‖_q", ("min_norm", "min_norm_edge")),
    Statement("Section II", "ρ̂₁ and ρ̂₂ measure robustness", ("measures", "pieces", "probabilities")),
    Statement("(GNII)", "the best perturbation under ‖η‖_p ≤ ε", ("agreement", "certified")),
    Statement("Proposition 2, (6)", "η = −ε sign(∇L)|∇L|^{q−1}/‖∇L‖_q^{q−1} solves (GNII)", ("proposition_2",)),
    Statement("(7)", "for p = ∞, η = −ε sign(∇L)", ("sign",)),
    Statement("Section II", "(GNII) takes other convex constraints", ("with_box", "other_constraints")),
    Statement("Remark 1", "the formulation is compatible with the linearity hypothesis", ("linearization",)),
    Statement("Section II", "with the training loss and p = ∞, (GNII) is FastGrad", ("fastgrad",)),
    Statement(
        "(8)",
        "(GN) simplifies to min ‖η‖_p subject to L + ηᵀ∇L ≤ 0",
        ("min_norm", "min_norm_edge", "agreement", "certified"),
    ),
    Statement("Section II", "(8) recovers DeepFool; repeated, its iterations", ("deepfool_step", "iterations")),
    Statement(
        "(9)", "regression: max ‖J_fη‖₂² subject to ‖η‖_p ≤ ε is ε²‖J_f‖²_{p→2}, on the border", ("operator_norm",)
    ),
    Statement("Section III, p = 2", "the top singular vector solves (9)", ("operator_norm", "operator_norm_sdp")),
    Statement("Section III, p = 1", "the longest column solves (9), a single pixel attack", ("operator_norm",)),
    Statement("Section III, p = ∞", "(9) is NP-hard", ("max_cut",)),
    Statement(
        "Section III, p = ∞", "semidefinite programming approximates (9)", ("operator_norm_sdp", "rounding", "max_cut")
    ),
    Statement("Section III, p = ∞", "the semidefinite program scales badly with the input", ("operator_norm_sdp",)),
    Statement("Section III", "segmentation: L_t = f_k − f_t aims at a class t", ("segmentation",)),
    Statement("Section III", "anomaly detection: one score is minimized or maximized", ("single_score",)),
    Statement("Section IV, Algorithm 1", "(GNII) with L of (3), searching over all l", ("pieces", "iterations")),
    Statement("Section IV, Algorithm 1-n", "n noise vectors of norm ε/n", ("iterations",)),
    Statement("Section IV, Algorithm 2", "(GNII) with L ≈ f_k", ("single_score", "probabilities")),
    Statement("Section IV, FastGrad", "(GNII) with the negative training loss", ("fastgrad",)),
    Statement(
        "Section IV, DeepFool", "each iteration is in the framework, with l̂", ("deepfool_step", "iterations", "pieces")
    ),
    Statement("Section IV, Random", "independent entries ±ε", ("random_sign",)),
    Statement("Section IV", "the fooling ratio, and the ε that fools more than 99%", ("measures",)),
    Statement(
        "Figures 1 and 2, Table I",
        "examples, curves, numbers",
        note="an experiment: python -m benchmarks figure1, figure2, table1",
    ),
)
