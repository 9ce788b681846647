"""Callbacks that are called when something happens."""

from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")


class Listeners(Generic[P]):
    """Those who are called, in the order in which they were added, when this is called."""

    def __init__(self) -> None:
        self._called: list[Callable[P, object]] = []

    def add(self, listener: Callable[P, object]) -> None:
        """Call the listener too from now on; it must not block."""
        self._called.append(listener)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call every listener."""
        for listener in self._called:
            listener(*args, **kwargs)
