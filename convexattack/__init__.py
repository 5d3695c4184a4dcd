"""convexattack: adversarial perturbations as convex programs, solved twice and certified."""

from convexattack.attacks import (
    Attack,
    Perturbation,
    RandomSign,
    RegressionAttack,
    RegressionPerturbation,
    algorithm1,
    algorithm2,
    deepfool,
    fastgrad,
    random_sign,
    regression_attack,
)
from convexattack.certificates import Certificate, Tolerance, certify
from convexattack.linearize import JacobianOperator, Linearization, jacobian, jacobian_operator, linearize
from convexattack.losses import class_score, margin, negative_cross_entropy, probabilities, targeted
from convexattack.norms import Lp
from convexattack.programs import GN, GNII, MinNorm, OperatorNorm, Program
from convexattack.robustness import (
    Estimate,
    FoolingCurve,
    Rho2,
    fooling_curve,
    fooling_ratio,
    rho_1,
    rho_2,
    smallest_radius,
)
from convexattack.sets import Ball, Box, ConvexSet, CustomSet, PixelRange
from convexattack.solution import Solution, Status
from convexattack.solvers import solve

__all__ = [
    "GN",
    "GNII",
    "Attack",
    "Ball",
    "Box",
    "Certificate",
    "ConvexSet",
    "CustomSet",
    "Estimate",
    "FoolingCurve",
    "JacobianOperator",
    "Linearization",
    "Lp",
    "MinNorm",
    "OperatorNorm",
    "Perturbation",
    "PixelRange",
    "Program",
    "RandomSign",
    "RegressionAttack",
    "RegressionPerturbation",
    "Rho2",
    "Solution",
    "Status",
    "Tolerance",
    "algorithm1",
    "algorithm2",
    "certify",
    "class_score",
    "deepfool",
    "fastgrad",
    "fooling_curve",
    "fooling_ratio",
    "jacobian",
    "jacobian_operator",
    "linearize",
    "margin",
    "negative_cross_entropy",
    "probabilities",
    "random_sign",
    "regression_attack",
    "rho_1",
    "rho_2",
    "smallest_radius",
    "solve",
    "targeted",
]
