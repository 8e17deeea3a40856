"""One forward pass at a time, in the order in which threads asked: the processor is shared fairly between texts that are
written side by side and one that generate writes alone."""

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A lock that goes to whoever has waited longest; a plain one would go back to the thread that just let it go."""

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
        """Let all others who wait go first."""
        self.__exit__(None, None, None)
        self.__enter__()
