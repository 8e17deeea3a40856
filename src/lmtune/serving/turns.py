"""One forward pass at a time, in the order in which threads asked.

So the processor is shared fairly between texts in a batch and one that generate writes alone.
"""

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A first-come, first-served lock; a plain one would go back to the thread that just released it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False

    def pause(self) -> None:
        """Let all other waiting threads go first."""
        self.__exit__(None, None, None)
        self.__enter__()
