"""convexattack: adversarial perturbations as convex programs, solved twice and certified."""

from convexattack.certificates import Certificate, Tolerance, certify
from convexattack.linearize import JacobianOperator, Linearization, jacobian, jacobian_operator, linearize
from convexattack.losses import class_score, margin, negative_cross_entropy, probabilities, targeted
from convexattack.norms import Lp
from convexattack.programs import GN, GNII, MinNorm, OperatorNorm, Program
from convexattack.sets import Ball, Box, ConvexSet, CustomSet, PixelRange
from convexattack.solution import Solution, Status
from convexattack.solvers import solve

__all__ = [
    "GN",
    "GNII",
    "Ball",
    "Box",
    "Certificate",
    "ConvexSet",
    "CustomSet",
    "JacobianOperator",
    "Linearization",
    "Lp",
    "MinNorm",
    "OperatorNorm",
    "PixelRange",
    "Program",
    "Solution",
    "Status",
    "Tolerance",
    "certify",
    "class_score",
    "jacobian",
    "jacobian_operator",
    "linearize",
    "margin",
    "negative_cross_entropy",
    "probabilities",
    "solve",
    "targeted",
]
