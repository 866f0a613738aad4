"""Exact top-K with seen items left out: `training.topk` against faiss-cpu `IndexFlatIP`.

faiss has no per-user filter for a batch of queries, so it searches K + S items (S is the most
seen items any user has) and the seen ones are dropped by a mask. Both use the same number of
threads and run in alternation in one process, so that the load of the machine hits both; the
report gives the median over the pairs of faiss' time over ours. The lists are compared item by
item.

    python -m benchmarks.topk --report docs/results/topk.md
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

_THREADS = int(os.environ.setdefault("OPENBLAS_NUM_THREADS", "2"))
os.environ["OMP_NUM_THREADS"] = str(_THREADS)

# The BLAS reads its number of threads when numpy is imported.
import faiss  # noqa: E402
import numpy as np  # noqa: E402

from training.topk import ItemLists, top_k_factors  # noqa: E402

_TIE = 1e-5
"""Scores closer than this, relative to the longest product of lengths, may swap places."""

_FILTER_ROWS = 256


def main(argv: list[str] | None = None) -> int:
    """Runs the comparison; the exit code says whether the lists agree and the speed suffices."""
    options = _parser().parse_args(argv)
    rng = np.random.default_rng(options.seed)
    user_UD = rng.standard_normal((options.users, options.width), dtype=np.float32)
    item_ND = rng.standard_normal((options.items, options.width), dtype=np.float32)
    seen = ItemLists.of(
        rng.choice(options.items, options.seen, replace=False) for _ in range(options.users)
    )
    index = faiss.IndexFlatIP(options.width)
    index.add(item_ND)
    faiss.omp_set_num_threads(_THREADS)

    def ours() -> np.ndarray:
        return top_k_factors(user_UD, item_ND, options.k, exclude=seen)[0]

    def theirs() -> np.ndarray:
        return _faiss_lists(index, user_UD, seen, options.k)

    differing, worst = _compare(ours(), theirs(), user_UD, item_ND)
    pairs = np.array([(_seconds(ours), _seconds(theirs)) for _ in range(options.repetitions)])
    ratio = float(np.median(pairs[:, 1] / pairs[:, 0]))
    text = _report(options, pairs, ratio, differing, worst)
    print(text)
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text)
    return 0 if worst <= _TIE and ratio >= 1.0 else 1


def _faiss_lists(
    index: faiss.IndexFlatIP, user_UD: np.ndarray, seen: ItemLists, k: int
) -> np.ndarray:
    """(U, K) codes: search deeper by the most seen items, then drop the seen ones."""
    _, found_UX = index.search(user_UD, k + int(seen.lengths().max()))
    lists_UK = np.empty((len(user_UD), k), dtype=np.int64)
    seen_BN = np.zeros((_FILTER_ROWS, index.ntotal), dtype=bool)
    for start in range(0, len(user_UD), _FILTER_ROWS):
        found_BX = found_UX[start : start + _FILTER_ROWS]
        batch = seen.batch(start, start + len(found_BX))
        rows = batch.rows()
        seen_BN[rows, batch.items] = True
        keep_BX = ~np.take_along_axis(seen_BN[: len(found_BX)], found_BX, axis=1)
        seen_BN[rows, batch.items] = False
        keep_BX &= keep_BX.cumsum(axis=1) <= k
        lists_UK[start : start + _FILTER_ROWS] = found_BX[keep_BX].reshape(-1, k)
    return lists_UK


def _compare(
    ours_UK: np.ndarray, theirs_UK: np.ndarray, user_UD: np.ndarray, item_ND: np.ndarray
) -> tuple[int, float]:
    """(places that differ, greatest relative gap of the scores at one of them)."""
    row_P, rank_P = np.nonzero(ours_UK != theirs_UK)
    user_PD = user_UD[row_P].astype(np.float64)
    a_P = (user_PD * item_ND[ours_UK[row_P, rank_P]]).sum(axis=1)
    b_P = (user_PD * item_ND[theirs_UK[row_P, rank_P]]).sum(axis=1)
    longest = np.linalg.norm(user_UD, axis=1).max() * np.linalg.norm(item_ND, axis=1).max()
    return len(row_P), float(np.abs(a_P - b_P).max(initial=0.0) / longest)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _report(
    options: argparse.Namespace, pairs: np.ndarray, ratio: float, differing: int, worst: float
) -> str:
    ratios = pairs[:, 1] / pairs[:, 0]
    ours, theirs = np.median(pairs, axis=0)
    command = " ".join(["python -m benchmarks.topk", *sys.argv[1:]])
    rows = "\n".join(
        f"| {n} | {a:.2f} | {b:.2f} | {b / a:.2f} |" for n, (a, b) in enumerate(pairs, 1)
    )
    return f"""# Exact top-K: speed and agreement with faiss

Command: `{command}`

Task: the {options.k} best of {options.items:,} items for each of {options.users:,} users, \
{options.width} dimensions, normal random vectors (seed {options.seed}), {options.seen} seen \
items a user left out. {_THREADS} threads each. faiss searches {options.k + options.seen} items, \
then the seen ones are dropped; both parts are timed. Runs alternate in one process.

**faiss' time over ours, median of {len(pairs)} pairs: {ratio:.2f}** \
(least {ratios.min():.2f}, greatest {ratios.max():.2f}). \
Median {ours:.2f} s ({options.users / ours:,.0f} users/s) against {theirs:.2f} s \
({options.users / theirs:,.0f} users/s).

Lists: {differing} of {options.users * options.k:,} places differ; the scores there differ by \
at most {worst:.1e} of the longest product of lengths (bound {_TIE:.0e}).

| pair | training.topk, s | faiss IndexFlatIP + filter, s | ratio |
|---|---|---|---|
{rows}

Versions: Python {platform.python_version()}, numpy {np.__version__}, faiss-cpu \
{faiss.__version__} ({faiss.get_compile_options().strip()}), {os.cpu_count()} cores \
({_processor()}), load average at the end {os.getloadavg()[0]:.1f}.
"""


def _processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=64, help="length of the vectors")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--seen", type=int, default=50, help="seen items of each user")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="also write the text to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
