"""How figures are printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], unit: str = "ms", factor: float = 1000.0) -> str:
    """Median, 99th percentile and the ends."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    figures = (statistics.median(ordered), p99, ordered[0], ordered[-1])
    p50, high, least, most = (f"{value * factor:8.2f} {unit}" for value in figures)
    return f"median {p50}   p99 {high}   min {least}   max {most}"


def heading(text: str) -> None:
    """A line that names what follows."""
    print(f"\n=== {text}", flush=True)
