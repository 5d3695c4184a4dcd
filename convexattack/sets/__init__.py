"""Convex sets of perturbations: an atom seen through a linear map; the catalogue; and any set that CVXPY can write."""

from convexattack.sets import atoms, maps
from convexattack.sets.base import ConvexSet
from convexattack.sets.catalogue import (
    Affine,
    Ball,
    Box,
    GroupBall,
    Halfspaces,
    PixelRange,
    Support,
    TotalVariation,
    WeightedBall,
)
from convexattack.sets.custom import CustomSet

SETS: set[type[ConvexSet]] = {ConvexSet, Ball, Box, CustomSet}
"""The kinds of sets that a program takes; a subclass of one's own is none of them."""

__all__ = [
    "SETS",
    "Affine",
    "Ball",
    "Box",
    "ConvexSet",
    "CustomSet",
    "GroupBall",
    "Halfspaces",
    "PixelRange",
    "Support",
    "TotalVariation",
    "WeightedBall",
    "atoms",
    "maps",
]
