"""How fast? `python -m benchmarks timing` measures both paths side by side, and what CVXPY adds to the bare solver. No assertion lives here."""
