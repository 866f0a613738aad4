"""How much memory and processor time a stage takes, with all the processes it starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psutil

_SECONDS = 2.0


class Usage:
    """Samples this process and all its children, every two seconds and at the end.

    Nothing is seen of a child that lives for less than the time between two samples, nor of
    processes on other machines, such as the nodes of a Ray cluster.

    Attributes:
        peak_mb: Largest sum of their proportional memory (PSS), MiB.
    """

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._before: dict[tuple[int, float], float] = {}
        self._seconds: dict[tuple[int, float], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds, user and system, of all processes seen since the beginning."""
        spent = {key: now - self._before.get(key, 0.0) for key, now in self._seconds.items()}
        return sum(spent.values())

    def __enter__(self) -> Usage:
        # What serves several stages, such as Spark's JVM, has a past.
        self._before = {key: seconds for key, seconds, _ in _processes()}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            # Not at once: to read a large process's memory takes time, and nothing was done yet.
            is_last = self._stop.wait(_SECONDS)
            total = 0
            for key, seconds, process in _processes():
                self._seconds[key] = seconds
                try:
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended meanwhile
                    continue
            self.peak_mb = max(self.peak_mb, total / 2**20)
            if is_last:
                return


def _processes() -> Iterator[tuple[tuple[int, float], float, psutil.Process]]:
    """Id with beginning, processor seconds, and process: of this one and all its children."""
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
            yield (process.pid, process.create_time()), times.user + times.system, process
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended meanwhile
            continue
