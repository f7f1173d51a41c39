"""Running work in threads, and finding where a thread hangs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Final, TypeVar

from meshproof.core.errors import ClaimFailed

A = TypeVar("A")
B = TypeVar("B")

WIDTH: Final = 12
"""Maximum number of threads: an `exec` costs the API server and the kubelet a process each."""
MOST_PLACES: Final = 3
LIBRARIES: Final = (str(Path(threading.__file__).parent), "site-packages", "<frozen")


class ChildThread(threading.Thread):
    """A thread that knows its parent thread, and is a daemon if the parent is one, unless `daemon` is given."""

    def __init__(self, work: Callable[[], None], *, name: str, daemon: bool | None = None) -> None:
        super().__init__(target=work, name=name, daemon=daemon)
        self.parent = threading.current_thread()


class Pool:
    """Runs work in threads, each piece in a copy of the context in which it was submitted.

    `ThreadPoolExecutor` copies no context, and the interpreter joins its threads at exit even if daemons wait for them:
    one hanging request would keep the process alive for ever. Threads that are not daemons (undoing a fault) do finish.
    """

    def __init__(self, width: int, *, name: str) -> None:
        self._width = width
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[ChildThread] = []

    def submit(self, work: Callable[[A], B], argument: A) -> Future[B]:
        future: Future[B] = Future()
        context = copy_context()

        def run() -> None:
            try:
                future.set_result(context.run(work, argument))
            except BaseException as problem:  # noqa: BLE001 - re-raised to whoever waits for the result
                future.set_exception(problem)

        self._queue.put(run)
        if len(self._threads) < self._width:
            thread = ChildThread(self._serve, name=f"{self._name}-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        return future

    def _serve(self) -> None:
        while (run := self._queue.get()) is not None:
            run()

    def close(self, *, timeout_s: float | None = None) -> bool:
        """Wait until all work has ended, for at most `timeout_s` seconds. Returns whether it has."""
        for _ in self._threads:
            self._queue.put(None)
        end = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def together(work: Callable[[A], B], items: Iterable[A], *, width: int = WIDTH) -> list[B]:
    """The results of `work` for each item, in the order of the items; all of them end before this returns.

    Each runs in a copy of the caller's context. If some raise: `ClaimFailed` with all texts if the mesh is wrong in
    each case, else the first other exception, with the remaining ones as notes. A claim that could not be examined
    completely is not reported as failed.
    """
    things = list(items)
    if not things:
        return []
    with Pool(min(width, len(things)), name="meshproof") as pool:
        futures = [pool.submit(work, thing) for thing in things]
    problems = [problem for future in futures if (problem := future.exception()) is not None]
    if not problems:
        return [future.result() for future in futures]
    ours = [problem for problem in problems if not isinstance(problem, ClaimFailed)]
    if not ours:
        raise problems[0] if len(problems) == 1 else ClaimFailed("\n".join(str(problem) for problem in problems))
    first, *others = ours
    for other in others:
        first.add_note(f"and: {other}")
    raise first


# -- stacks of threads ------------------------------------------------------------------------------------------------


def innermost_calls(thread: threading.Thread) -> list[str]:
    """Where a thread and the threads that it waits for are now: the innermost function of each outside of libraries."""
    frames = sys._current_frames()
    everyone = [one for one in threading.enumerate() if one is thread or thread in _ancestors(one)]
    busy = {one: place for one in everyone if (place := _place(frames.get(one.ident or 0))) is not None}
    waiting = {ancestor for one in busy for ancestor in _ancestors(one)}
    places = dict.fromkeys(place for one, place in busy.items() if one not in waiting)
    return list(places)[:MOST_PLACES]


def _ancestors(thread: threading.Thread) -> Iterator[threading.Thread]:
    while isinstance(thread, ChildThread):
        thread = thread.parent
        yield thread


def _place(frame: FrameType | None) -> str | None:
    while frame is not None and not _is_ours(frame):
        frame = frame.f_back
    return None if frame is None else f"{frame.f_code.co_qualname} ({_shown(frame)}:{frame.f_lineno})"


def _is_ours(frame: FrameType) -> bool:
    module, file = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
    if module == __name__:
        return False
    return str(module).startswith("meshproof.") or not any(library in file for library in LIBRARIES)


def _shown(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else "/".join(path.parts[-3:])
