"""How long the command line takes to answer: median wall time of whole processes.

python -m benchmarks.cli
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = (("--help",), ("lint",), ("graph", "demo"), ("describe", "features"))
RUNS = 15
TARGET = Path("docs/results/cli.md")


def main() -> None:
    rows = []
    for arguments in (("-c", "pass"), *(("-m", "pipelines", *command) for command in COMMANDS)):
        seconds = sorted(_seconds(arguments) for _ in range(RUNS))
        name = "python -c pass" if arguments[0] == "-c" else f"sextant {' '.join(arguments[2:])}"
        rows.append(
            f"| `{name}` | {seconds[0]:.2f} | {statistics.median(seconds):.2f} | "
            f"{seconds[-1]:.2f} |"
        )
    TARGET.write_text(
        "# Command line\n\n"
        f"Wall seconds of whole processes, {RUNS} runs each, warm file cache, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores. `python -c pass` is what the "
        "interpreter alone takes.\nMade by `python -m benchmarks.cli`.\n\n"
        "| command | least | median | greatest |\n| --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )
    print(TARGET.read_text())


def _seconds(arguments: tuple[str, ...]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
