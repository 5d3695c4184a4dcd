"""The paper's convex programs, a file each. Each is data and owns its mathematics; none knows how it is solved."""

from convexattack.programs.base import Bound, Program
from convexattack.programs.gn import GN
from convexattack.programs.gnii import GNII
from convexattack.programs.hinge_sum import HingeSum
from convexattack.programs.min_norm import MinNorm
from convexattack.programs.operator_norm import OperatorNorm

__all__ = ["GN", "GNII", "Bound", "HingeSum", "MinNorm", "OperatorNorm", "Program"]
