"""The paper's claims, one file each: derived in the file's docstring, checked by oracles that share no code with the library.

`python -m verification` checks them all. Importing a claim's module registers it.
"""

from verification import proposition_1, proposition_2, sign, min_norm, with_box, near_ties, fastgrad, deepfool_step, agreement  # isort: skip
from verification import operator_norm, operator_norm_sdp, rounding  # isort: skip
from verification.claims import CLAIMS, Claim, Finding, Record, run

__all__ = [
    "CLAIMS",
    "Claim",
    "Finding",
    "Record",
    "agreement",
    "deepfool_step",
    "fastgrad",
    "min_norm",
    "near_ties",
    "operator_norm",
    "operator_norm_sdp",
    "proposition_1",
    "proposition_2",
    "rounding",
    "run",
    "sign",
    "with_box",
]
