"""The reference: (GN), (GNII) and (8) as parametrized CVXPY programs, normalised, compiled once for each kind and re-solved item by item.

Conic solvers stop at absolute tolerances, so the text they see is normalised: c = g/‖g‖_q and u = η/s, with s = ε for (GNII) and L/‖g‖_q for (8).

    (GN), (GNII)   minimize cᵀu  subject to  u ∈ C_j/s            (8)   minimize ‖u‖_p  subject to  cᵀu ≤ −L/(s‖g‖_q),  u ∈ C_j/s

The first set acts on u itself; every other one gets a row whose dual value is its multiplier, and the first absorbs what is left of −c.
Linear programs go to HiGHS, all others to Clarabel (p other than 1, 2, ∞ as power cones).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from cvxpy.reductions.solvers.defines import installed_solvers

from convexattack.norms import Lp
from convexattack.programs import GN, GNII, MinNorm, Program
from convexattack.sets import Ball, Box, ConvexSet, CustomSet
from convexattack.solution import Solution, Status
