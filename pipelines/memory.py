"""How much memory a stage takes, with all the processes it starts."""

from __future__ import annotations

import threading


class PeakMemory:
    """Samples the proportional memory (PSS) of this process and all its children."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        me = psutil.Process()
        while True:
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended meanwhile
                    continue
            self.peak_mb = max(self.peak_mb, total / 2**20)
            if self._stop.wait(2.0):
                return
