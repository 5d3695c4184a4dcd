"""The paper's claims, one file each: derived in its docstring, checked by oracles that share no code with the library.

`python -m verification` checks them all. Importing a claim's module registers it; the order is the paper's.
"""

from verification import linearization, fooled, dual_norm, proposition_1, proposition_1_equality, near_ties  # isort: skip
from verification import proposition_2, sign, other_constraints, with_box, pieces, fastgrad, probabilities  # isort: skip
from verification import min_norm, min_norm_edge, deepfool_step, iterations, random_sign, agreement, certified  # isort: skip
from verification import operator_norm, max_cut, operator_norm_sdp, rounding, segmentation, single_score, measures  # isort: skip
from verification.claims import CLAIMS, Claim, Finding, Record, run

__all__ = [
    "CLAIMS", "Claim", "Finding", "Record", "agreement", "certified", "deepfool_step", "dual_norm", "fastgrad",
    "fooled", "iterations", "linearization", "max_cut", "measures", "min_norm", "min_norm_edge", "near_ties",
    "operator_norm", "operator_norm_sdp", "other_constraints", "pieces", "probabilities", "proposition_1",
    "proposition_1_equality", "proposition_2", "random_sign", "rounding", "run", "segmentation", "sign", "single_score",
    "with_box",
]  # fmt: skip
