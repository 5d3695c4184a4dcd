"""How fast? `python -m benchmarks timing` and `sdp` measure both paths side by side. No assertion lives here."""
