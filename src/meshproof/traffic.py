"""A load at a constant rate, open loop: a slow answer does not make the next request wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Final

from meshproof.deadlines import DEADLINES, SAMPLES
from meshproof.errors import Broken
from meshproof.history import History, Outcome, Request
from meshproof.mesh import Mesh
from meshproof.probes.answer import HttpAnswer
from meshproof.probes.http import ask_ingress
from meshproof.snapshot import Snapshot

Ask = Callable[[], HttpAnswer]

MOST_WAITING: Final = 256
"""Requests on their way at once: at 20 a second and a limit of 15 s there are more only if all of them hang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment on both clocks."""

    monotonic_s: float
    wall: float

    @classmethod
    def now(cls) -> Mark:
        return cls(monotonic_s=time.monotonic(), wall=time.time())


class Load:
    """Sends `rate` requests per second from every source while it is entered; `history` has what became of them."""

    def __init__(self, sources: Mapping[str, Ask], *, rate: float = SAMPLES.load_rate) -> None:
        self.history = History()
        self.sources = MappingProxyType(dict(sources))
        self._pause_s = 1.0 / rate
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=MOST_WAITING, thread_name_prefix="load")
        self._pacers: list[threading.Thread] = []
        self._futures: list[Future[None]] = []
        self._abandoned = threading.Event()

    def __enter__(self) -> Load:
        for number, (source, ask) in enumerate(self.sources.items()):
            offset = self._pause_s * number / len(self.sources)
            pacer = threading.Thread(target=self._pace, args=(source, ask, offset), name=f"pace-{source}", daemon=True)
            self._pacers.append(pacer)
            pacer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sending, and wait for what is on its way as long as the client's own limit lets it be."""
        self._stop.set()
        for pacer in self._pacers:
            pacer.join()
        done, late = wait(self._futures, timeout=DEADLINES.client + 1 if kind is None else 0)
        self._abandoned.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if kind is None:
            for future in done:
                future.result()
            if late:
                raise Broken("the load", f"{len(late)} requests did not end within their own limit")

    def _pace(self, source: str, ask: Ask, offset_s: float) -> None:
        due = time.monotonic() + offset_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._futures.append(self._pool.submit(self._send, source, ask, Mark.now()))
            due += self._pause_s

    def _send(self, source: str, ask: Ask, mark: Mark) -> None:
        answer = ask()
        outcome = Outcome.UNKNOWN if self._abandoned.is_set() else outcome_of(answer)
        self.history.add(
            Request(
                sent_s=mark.monotonic_s,
                wall=mark.wall,
                source=source,
                outcome=outcome,
                status=answer.status,
                version=answer.version,
                latency_s=time.monotonic() - mark.monotonic_s,
                error=answer.error,
            )
        )


def outcome_of(answer: HttpAnswer) -> Outcome:
    """Answered with success, refused with a status, or lost without an answer."""
    if answer.ok:
        return Outcome.ANSWERED
    return Outcome.REFUSED if answer.status else Outcome.LOST


@contextmanager
def load_on_ingresses(mesh: Mesh, snapshot: Snapshot, *, rate: float = SAMPLES.load_rate) -> Iterator[Load]:
    """A load through the ingress gateway of every cluster; a source is called after its cluster."""

    def asker(address: str) -> Ask:
        return lambda: ask_ingress(address, timeout_s=DEADLINES.client)

    with Load({c.name: asker(snapshot.of(c).ingress_address) for c in mesh.clusters}, rate=rate) as load:
        yield load
