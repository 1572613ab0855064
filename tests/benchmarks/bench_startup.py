"""How long `import sharegptvideo` and `sharegptvideo --help` take, each in a fresh interpreter.

    python tests/benchmarks/bench_startup.py

Marks: under 0.5 s and under 1 s. Prints the median and the slowest of ten, in seconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 10
CASES = {
    "import sharegptvideo": [sys.executable, "-c", "import sharegptvideo"],
    "sharegptvideo --help": [sys.executable, "-m", "sharegptvideo", "--help"],
    "sharegptvideo build --help": [sys.executable, "-m", "sharegptvideo", "build", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure every case; the first run, which fills the file cache, is left out."""
    for name, command in CASES.items():
        seconds(command)
        taken = [seconds(command) for _ in range(RUNS)]
        print(f"{name:<28} median {statistics.median(taken):.2f}  slowest {max(taken):.2f}")


if __name__ == "__main__":
    main()
