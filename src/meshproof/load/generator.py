"""Open-loop load at a constant rate: a slow response does not delay the next request."""

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

MOST_IN_FLIGHT: Final = 512
"""Concurrent requests in flight: at 20 a second and a timeout of 15 s there are more only if all of them hang."""


Sender = Callable[[], Response]


class EntryPoint(StrEnum):
    """How a request enters the mesh.

    Client pods need no keep-alive variant: a kept connection would end at the pod's own sidecar, whose upstream
    connections are kept alive anyway.
    """

    NEW = "ingress new"
    """Through the ingress gateway, with a new connection for each request."""
    KEPT = "ingress kept"
    """Through the ingress gateway, over keep-alive connections."""
    CLIENT = "client"
    """From the client pod in the mesh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTarget:
    """A requested service: `host` at ingress gateways, `url` inside the mesh, `name` in histories."""

    name: str
    host: str
    url: str


DEFAULT: Final = LoadTarget(name="", host=names.APP_HOST, url=app_url())
"""The application as it is installed, with Istio's default settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where requests come from and which target they request; its text is its name in a history."""

    cluster: str
    entry_point: EntryPoint
    target: LoadTarget = DEFAULT

    def __str__(self) -> str:
        return f"{self.cluster} {self.entry_point} {self.target.name}".strip()


class Load:
    """Sends `rate` requests per second from every source while entered; `history` has their outcomes.

    This process calls `senders`; client pods send the loads in `pods`. `responders` maps the version in a response to
    the cluster that it comes from.
    """

    def __init__(
        self,
        senders: Mapping[str, Sender],
        *,
        rate: float = SAMPLES.load_rate_hz,
        pods: Sequence[PodLoad] = (),
        responders: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.history = History()
        self.rate = rate
        self.sources = (*senders, *(source for pod in pods for source in pod.sources))
        self._senders = dict(senders)
        self._pods = tuple(pods)
        self._responders = responders
        self._pause_s = 1.0 / rate
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=MOST_IN_FLIGHT, thread_name_prefix="load")
        self._pacers: list[threading.Thread] = []
        self._late_s: dict[str, float] = dict.fromkeys(senders, 0.0)
        self._futures: list[Future[None]] = []
        self._abandoned = threading.Event()

    @property
    def late_s(self) -> Mapping[str, float]:
        """By source, the seconds by which the load generator fell behind schedule at worst, for lack of CPU time."""
        return self._late_s | {source: late for pod in self._pods for source, late in pod.late_s.items()}

    def __enter__(self) -> Load:
        together(lambda pod: pod.start(self.rate), self._pods)
        for number, (source, sender) in enumerate(self._senders.items()):
            offset = self._pause_s * number / len(self._senders)
            pacer = threading.Thread(
                target=self._pace, args=(source, sender, offset), name=f"pace-{source}", daemon=True
            )
            self._pacers.append(pacer)
            pacer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sending, and wait for requests in flight until the client's own timeout."""
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
                raise Broken("load generator", f"{len(late)} requests did not end within their own timeout")

    def _pace(self, source: str, sender: Sender, offset_s: float) -> None:
        due = time.monotonic() + offset_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._late_s[source] = max(self._late_s[source], time.monotonic() - due)
            self._futures.append(self._pool.submit(self._send, source, sender, Mark.now()))
            due += self._pause_s

    def _send(self, source: str, sender: Sender, mark: Mark) -> None:
        response = sender()
        outcome = RequestOutcome.UNKNOWN if self._abandoned.is_set() else outcome_of(response)
        self._add(source, mark, response, outcome, time.monotonic() - mark.monotonic_s)

    def _add_from_pod(self, requests: Sequence[PodRequest]) -> None:
        for each in requests:
            end = each.end
            outcome = outcome_of(end.response) if end else RequestOutcome.UNKNOWN
            self._add(
                each.source,
                each.sent,
                end.response if end else Response(status=0),
                outcome,
                end.latency_s if end else 0.0,
            )

    def _add(self, source: str, mark: Mark, response: Response, outcome: RequestOutcome, latency_s: float) -> None:
        self.history.add(
            Request(
                sent_s=mark.monotonic_s,
                wall=mark.wall,
                source=source,
                outcome=outcome,
                status=response.status,
                version=response.version,
                latency_s=latency_s,
                error=response.error,
                cluster=self._responders.get(response.version, ""),
                flags=response.flags,
                attempts=response.attempts,
            )
        )


def outcome_of(response: Response) -> RequestOutcome:
    """Answered with 2xx, refused with another status, or lost without a complete response."""
    if response.error:
        return RequestOutcome.LOST
    return RequestOutcome.ANSWERED if 200 <= response.status < 300 else RequestOutcome.REFUSED


def ingress_sender(
    address: str, target: LoadTarget, *, keep: bool, port: int = 80, timeout_s: float = DEADLINES.client_s
) -> Sender:
    """A sender of requests to an ingress gateway, over new or keep-alive connections, without retries."""
    kept = plain_session(MOST_IN_FLIGHT) if keep else None

    def send() -> Response:
        # A session per request: a shared pool could hand out a connection that the gateway is about to close.
        session = kept or plain_session()
        try:
            response = get(session, address, host=target.host, port=port, timeout_s=timeout_s, close=not keep)
        except OSError as problem:
            return Response(status=0, error=words(problem))
        finally:
            if not keep:
                session.close()
        attempts = response.headers.get(names.ATTEMPTS_HEADER, "")
        return Response(
            status=response.status_code,
            version=response.headers.get(VERSION_HEADER, "") if response.status_code < 300 else "",
            flags=response.headers.get(names.FLAGS_HEADER, ""),
            attempts=int(attempts) if attempts.isdecimal() else 0,
        )

    return send


def sources_of(
    snapshot: Snapshot, targets: Sequence[LoadTarget], entry_points: Sequence[EntryPoint]
) -> tuple[Source, ...]:
    """Sources in every cluster, with these entry points; without a usable ingress gateway only its client pod."""
    usable = snapshot.with_ingress
    return tuple(
        Source(cluster=str(cluster.name), entry_point=entry_point, target=target)
        for cluster in snapshot.mesh.clusters
        for target in targets
        for entry_point in entry_points
        if entry_point is EntryPoint.CLIENT or cluster in usable
    )


@contextmanager
def load_on(
    mesh: Mesh,
    snapshot: Snapshot,
    *,
    targets: Sequence[LoadTarget] = (DEFAULT,),
    entry_points: Sequence[EntryPoint] = tuple(EntryPoint),
    extra_loads: Sequence[PodLoad] = (),
    rate: float = SAMPLES.load_rate_hz,
) -> Iterator[Load]:
    """A load on the application from the sources with these entry points, and the `extra_loads` of further pods."""
    senders = {
        str(source): ingress_sender(
            snapshot.of(mesh.cluster(source.cluster)).ingress_address,
            source.target,
            keep=source.entry_point is EntryPoint.KEPT,
        )
        for source in sources_of(snapshot, targets, entry_points)
        if source.entry_point is not EntryPoint.CLIENT
    }
    pods = (
        [_pod_load(cluster, snapshot, targets) for cluster in mesh.clusters]
        if EntryPoint.CLIENT in entry_points
        else []
    )
    responders = {cluster.spec.app_version: str(cluster.name) for cluster in mesh.clusters}
    with Load(senders, rate=rate, pods=[*pods, *extra_loads], responders=responders) as load:
        yield load


def _pod_load(cluster: Cluster, snapshot: Snapshot, targets: Sequence[LoadTarget]) -> PodLoad:
    sources = {
        str(Source(cluster=cluster.name, entry_point=EntryPoint.CLIENT, target=target)): target.url
        for target in targets
    }
    return PodLoad(cluster.kube, snapshot.of(cluster).client, sources)
