"""For a closed form or library of one's own: `check_step` looks for the smallest program that its step gets wrong.

In the manner of scikit-learn's `check_estimator`: one call, no network, no data. The strategies that draw the programs
are public, for hypothesis tests of one's own.
"""

from __future__ import annotations

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError(
        "convexattack.testing draws its programs with hypothesis; run: pip install 'convexattack[testing]'"
    ) from error

from convexattack.testing.check import check_step
from convexattack.testing.counterexample import Counterexample
from convexattack.testing.strategies import gradients, images, programs

__all__ = ["Counterexample", "check_step", "gradients", "images", "programs"]
