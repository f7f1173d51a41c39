"""What closed the connections of lost requests: proxies know when each listener was replaced, and log what failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshproof.clients import envoy_admin as envoy
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken
from meshproof.failover.proxy_logs import LogEntry, current_proxies, proxy_errors
from meshproof.load.history import Request, clock
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts

NEAR_S: Final = 2.0
"""How far apart the clocks of a proxy, its log and this machine may be, and how long a proxy takes to close
connections."""
FIRST_LISTENERS_S: Final = 10.0
"""A proxy gets its first listeners this soon after its start; they replace none."""
MOST_ENTRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedListener:
    """A listener that got a new version `at` (seconds since 1970), so that connections of the old one were closed at
    `closed`, the end of the proxy's drain time."""

    proxy: str
    name: str
    at: float
    closed: float

    def explains(self, request: Request) -> bool:
        return abs(request.wall + request.latency_s - self.closed) <= NEAR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What was found out about the lost requests of a drill whose fault was injected at `injected`."""

    lost: tuple[Request, ...] = ()
    replaced: tuple[ReplacedListener, ...] = ()
    logged: Mapping[str, Sequence[LogEntry]] = field(default_factory=dict)

    def doubt(self, injected: float) -> str:
        """Why all losses are those of an earlier change than the fault; empty unless they are."""
        causes = [self._cause(request) for request in self.lost]
        first = causes[0] if causes else None
        if first is None or any(cause is None or cause.at >= injected for cause in causes):
            return ""
        return f"an earlier change closed the connections of the lost requests: {_words(first)}, before the fault"

    @property
    def lines(self) -> tuple[str, ...]:
        """For the text of a failure: the change that closed a connection, and what proxies logged of the first loss."""
        causes = dict.fromkeys(_words(cause) for cause in map(self._cause, self.lost) if cause is not None)
        found = [f"  closed by   {words}" for words in list(causes)[:MOST_ENTRIES]]
        entries = [
            f"{proxy}: {entry}"
            for proxy, logged in self.logged.items()
            for entry in logged
            if self.lost and abs(entry.at - self.lost[0].wall) <= NEAR_S
        ]
        found += [f"  logged by   {words}" for words in list(dict.fromkeys(entries))[:MOST_ENTRIES]]
        return tuple(found)

    def _cause(self, request: Request) -> ReplacedListener | None:
        return next((each for each in self.replaced if each.explains(request)), None)


def _words(cause: ReplacedListener) -> str:
    return f"{cause.proxy}, whose listener {cause.name} was replaced at {clock(cause.at)}"


def attribute(mesh: Mesh, lost: Iterable[Request]) -> Attribution:
    """What the mesh's proxies know about these requests; two `exec`s and a log for each proxy.

    A proxy that does not answer, for example since its cluster is lost, contributes nothing. Raises nothing, since it
    runs after failures.
    """
    requests = tuple(lost)
    if not requests:
        return Attribution()
    proxies = current_proxies(mesh)
    replaced = [each for found in together(_replaced, proxies) for each in found]
    return Attribution(lost=requests, replaced=tuple(replaced), logged=proxy_errors(proxies))


def _replaced(proxy: tuple[Cluster, PodFacts]) -> list[ReplacedListener]:
    cluster, pod = proxy
    try:
        server = envoy.server_times(cluster.kube, pod.namespace, pod.name)
        updated = envoy.listener_updates(cluster.kube, pod.namespace, pod.name)
    except Broken:
        return []
    return [
        ReplacedListener(proxy=f"{cluster} {pod}", name=name, at=at, closed=at + server.drain_s)
        for name, at in updated.items()
        if at > server.started + FIRST_LISTENERS_S
    ]
