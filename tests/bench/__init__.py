"""Benchmarks: each prints figures beside a peer measured in the same run. Machines are noisy: read the ratios."""
