"""How fast? `python -m benchmarks timing` and `sdp` measure both paths side by side. And how do the paper's figures
come out? `figure1`, `figure2` and `table1` put the paper's numbers beside ours. No assertion lives here."""
