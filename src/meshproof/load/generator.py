"""A load at a constant rate, open loop: a slow answer does not make the next request wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Final

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES, SAMPLES
from meshproof.core.errors import Broken
from meshproof.load.history import History, Mark, Request, RequestOutcome, Response
from meshproof.load.pod_generator import PodLoad, PodRequest
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.answers import VERSION_HEADER, words
from meshproof.probes.http import app_url, get, plain_session

MOST_WAITING: Final = 512
"""Requests on their way at once: at 20 a second and a limit of 15 s there are more only if all of them hang."""


Sender = Callable[[], Response]


class Way(StrEnum):
    """How a request goes in.

    There is no kept connection from a client pod: it would end at the pod's own sidecar, whose connections to others
    are kept alive anyway.
    """

    NEW = "ingress new"
    """Through the ingress gateway, each request over a connection of its own."""
    KEPT = "ingress kept"
    """Through the ingress gateway, over connections that are kept alive."""
    CLIENT = "client"
    """From the client pod in the mesh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTarget:
    """What is asked for: its `host` at ingress gateways, its `url` in the mesh. `name` is how histories call it."""

    name: str
    host: str
    url: str


DEFAULT: Final = LoadTarget(name="", host=names.APP_HOST, url=app_url())
"""The application as it is installed, with Istio's default settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where requests come from and what they ask for; its text is its name in a history."""

    cluster: str
    way: Way
    target: LoadTarget = DEFAULT

    def __str__(self) -> str:
        return f"{self.cluster} {self.way} {self.target.name}".strip()


class Load:
    """Sends `rate` requests per second from every source while it is entered; `history` has what became of them.

    `asks` are sent by this process, `pods` by client pods. `answerers` maps the version that an answer tells to the
    cluster that it came from.
    """

    def __init__(
        self,
        asks: Mapping[str, Sender],
        *,
        rate: float = SAMPLES.load_rate_hz,
        pods: Sequence[PodLoad] = (),
        answerers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.history = History()
        self.rate = rate
        self.sources = (*asks, *(source for pod in pods for source in pod.sources))
        self._asks = dict(asks)
        self._pods = tuple(pods)
        self._answerers = answerers
        self._pause_s = 1.0 / rate
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=MOST_WAITING, thread_name_prefix="load")
        self._pacers: list[threading.Thread] = []
        self._late_s: dict[str, float] = dict.fromkeys(asks, 0.0)
        self._futures: list[Future[None]] = []
        self._abandoned = threading.Event()

    @property
    def late_s(self) -> Mapping[str, float]:
        """By source how many seconds after its time a request was sent at worst: the machine had no time for it."""
        return self._late_s | {source: late for pod in self._pods for source, late in pod.late_s.items()}

    def __enter__(self) -> Load:
        together(lambda pod: pod.start(self.rate), self._pods)
        for number, (source, ask) in enumerate(self._asks.items()):
            offset = self._pause_s * number / len(self._asks)
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
        stopped = Mark.now()
        with ThreadPoolExecutor(max_workers=max(1, len(self._pods))) as collectors:
            collected = [collectors.submit(pod.finish, stopped) for pod in self._pods]
            done, late = wait(self._futures, timeout=DEADLINES.client_s + 1 if kind is None else 0)
        self._abandoned.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if kind is None:
            for future in done:
                future.result()
            for pod in collected:
                self._add_from_pod(pod.result())
            if late:
                raise Broken("the load", f"{len(late)} requests did not end within their own limit")

    def _pace(self, source: str, ask: Sender, offset_s: float) -> None:
        due = time.monotonic() + offset_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._late_s[source] = max(self._late_s[source], time.monotonic() - due)
            self._futures.append(self._pool.submit(self._send, source, ask, Mark.now()))
            due += self._pause_s

    def _send(self, source: str, ask: Sender, mark: Mark) -> None:
        told = ask()
        outcome = RequestOutcome.UNKNOWN if self._abandoned.is_set() else outcome_of(told)
        self._add(source, mark, told, outcome, time.monotonic() - mark.monotonic_s)

    def _add_from_pod(self, requests: Sequence[PodRequest]) -> None:
        for each in requests:
            end = each.end
            outcome = outcome_of(end.told) if end else RequestOutcome.UNKNOWN
            self._add(
                each.source, each.sent, end.told if end else Response(status=0), outcome, end.latency_s if end else 0.0
            )

    def _add(self, source: str, mark: Mark, told: Response, outcome: RequestOutcome, latency_s: float) -> None:
        self.history.add(
            Request(
                sent_s=mark.monotonic_s,
                wall=mark.wall,
                source=source,
                outcome=outcome,
                status=told.status,
                version=told.version,
                latency_s=latency_s,
                error=told.error,
                cluster=self._answerers.get(told.version, ""),
                flags=told.flags,
                attempts=told.attempts,
            )
        )


def outcome_of(told: Response) -> RequestOutcome:
    """Answered with success, refused with a status, or lost without an answer (or in the middle of one)."""
    if told.error:
        return RequestOutcome.LOST
    return RequestOutcome.ANSWERED if 200 <= told.status < 300 else RequestOutcome.REFUSED


def ingress_sender(
    address: str, target: LoadTarget, *, keep: bool, port: int = 80, timeout_s: float = DEADLINES.client_s
) -> Sender:
    """How to ask an ingress gateway: over a new connection each time, or over kept ones, never with a retry."""
    kept = plain_session(MOST_WAITING) if keep else None

    def ask() -> Response:
        # Of its own: from a shared pool a request could get a connection that the gateway is about to close.
        session = kept or plain_session()
        try:
            answer = get(session, address, host=target.host, port=port, timeout_s=timeout_s, close=not keep)
        except OSError as problem:
            return Response(status=0, error=words(problem))
        finally:
            if not keep:
                session.close()
        attempts = answer.headers.get(names.ATTEMPTS_HEADER, "")
        return Response(
            status=answer.status_code,
            version=answer.headers.get(VERSION_HEADER, "") if answer.status_code < 300 else "",
            flags=answer.headers.get(names.FLAGS_HEADER, ""),
            attempts=int(attempts) if attempts.isdecimal() else 0,
        )

    return ask


def sources_of(snapshot: Snapshot, targets: Sequence[LoadTarget], ways: Sequence[Way]) -> tuple[Source, ...]:
    """Every cluster in all of these ways; where no request can go through an ingress gateway, only from its client."""
    usable = snapshot.with_ingress
    return tuple(
        Source(cluster=str(cluster.name), way=way, target=target)
        for cluster in snapshot.mesh.clusters
        for target in targets
        for way in ways
        if way is Way.CLIENT or cluster in usable
    )


@contextmanager
def load_on(
    mesh: Mesh,
    snapshot: Snapshot,
    *,
    targets: Sequence[LoadTarget] = (DEFAULT,),
    ways: Sequence[Way] = tuple(Way),
    beside: Sequence[PodLoad] = (),
    rate: float = SAMPLES.load_rate_hz,
) -> Iterator[Load]:
    """A load on the application from the sources of these ways, and from pods `beside` them."""
    asks = {
        str(source): ingress_sender(
            snapshot.of(mesh.cluster(source.cluster)).ingress_address, source.target, keep=source.way is Way.KEPT
        )
        for source in sources_of(snapshot, targets, ways)
        if source.way is not Way.CLIENT
    }
    pods = [_pod_load(cluster, snapshot, targets) for cluster in mesh.clusters] if Way.CLIENT in ways else []
    answerers = {cluster.spec.app_version: str(cluster.name) for cluster in mesh.clusters}
    with Load(asks, rate=rate, pods=[*pods, *beside], answerers=answerers) as load:
        yield load


def _pod_load(cluster: Cluster, snapshot: Snapshot, targets: Sequence[LoadTarget]) -> PodLoad:
    sources = {str(Source(cluster=cluster.name, way=Way.CLIENT, target=target)): target.url for target in targets}
    return PodLoad(cluster.kube, snapshot.of(cluster).client, sources)
