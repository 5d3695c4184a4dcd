"""Any convex set that CVXPY can write."""

from __future__ import annotations

from convexattack.sets.base import ConvexSet

__all__ = ["CustomSet"]


class CustomSet(ConvexSet):
    """Being rebuilt as a cone slice."""
