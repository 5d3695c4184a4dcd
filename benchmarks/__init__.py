"""How fast? `python -m benchmarks timing` measures both paths side by side. No assertion lives here."""
