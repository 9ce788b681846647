"""What is done again and again beside a load."""

import threading
from typing import Self


class Repeatedly:
    """Does something at an interval, in a thread, until the `with` statement ends."""

    interval: float

    def __init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def once(self) -> None:
        """Do it."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._end.wait(self.interval):
            self.once()
