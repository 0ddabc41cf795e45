"""`python -m bench [NAME …]`: run the named benchmarks, or all of them."""

from __future__ import annotations

import argparse

from bench import distant, first_sync, idle, latency, lists, pages, reader, sending, waits

BENCHMARKS = {
    "latency": latency.main,
    "reader": reader.main,
    "first-sync": first_sync.main,
    "distant": distant.main,
    "lists": lists.main,
    "pages": pages.main,
    "waits": waits.main,
    "sending": sending.main,
    "idle": idle.main,
}


def main() -> None:
    """Run them in order."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, to see that it works")
    chosen = parser.parse_args()
    for name in chosen.names or BENCHMARKS:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
        BENCHMARKS[name](quick=chosen.quick)


main()
