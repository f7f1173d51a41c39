"""Whether proxies still close connections because of an earlier change, which a drill would blame on its fault.

A proxy whose listener changes keeps the old one for its drain time (45 s with Istio), and then closes the remaining
connections, some of them in the middle of a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from meshproof.clients import envoy_admin as envoy
from meshproof.clients.envoy_admin import Draining
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.core.waiting import NotYet, eventually
from meshproof.load.history import Mark, clock
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts, pod_facts
from meshproof.mesh.snapshot import Snapshot

POLL_S: Final = 2.0
INBOUND: Final = "virtualInbound"
"""The listener for requests to a pod (istio/istio, pilot/pkg/model, `VirtualInboundListenerName`)."""
MOST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainingProxy:
    """A proxy, and which listeners it drains."""

    cluster: Cluster
    pod: PodFacts
    what: Draining

    @property
    def name(self) -> str:
        return f"{self.cluster} {self.pod}"


def draining_proxies(snapshot: Snapshot) -> tuple[DrainingProxy, ...]:
    """The proxies that drain what may carry the load; one `exec` for each proxy of the mesh, in parallel.

    The clients of the load send requests and receive none, so an old inbound listener of theirs costs nothing. A pod
    that has left since the snapshot has nothing to close. Raises `Broken` if any other proxy does not answer: it might
    be draining.
    """
    return _draining([(facts.cluster, pod) for facts in snapshot.facts for pod in facts.proxies])


def must_be_drained(mesh: Mesh, draining: Sequence[DrainingProxy]) -> None:
    """Return when no proxy of `mesh` is draining any more; `draining` are those that were seen to be.

    Raises `NotReady` with those that still are, `DEADLINES.drained_s` seconds after the longest drain time among them.
    Polls those only, and in the end all proxies once more.
    """
    seen = Mark.now()
    since = {each.name: seen for each in draining}
    drain_s = max(together(_drain_time_s, draining), default=0.0)
    left = tuple(draining)

    def check() -> None:
        nonlocal left
        try:
            left = _draining([(each.cluster, each.pod) for each in left]) or draining_proxies(Snapshot.take(mesh))
        except Broken as problem:
            left = ()  # its state is unknown: next look at all proxies that exist then
            raise NotYet(f"unknown: {problem.what}: {problem.reason}") from None
        if left:
            raise NotYet(f"still draining: {_shown(left, since)}")

    eventually(
        check,
        what="no proxy drains a listener",
        timeout_s=drain_s + DEADLINES.drained_s,
        poll_s=POLL_S,
        repair="find out what keeps changing listeners (Gateways, Services, policies): istiod logs each push",
    )


def _draining(proxies: Iterable[tuple[Cluster, PodFacts]]) -> tuple[DrainingProxy, ...]:
    def read(proxy: tuple[Cluster, PodFacts]) -> DrainingProxy:
        cluster, pod = proxy
        try:
            what = _what_matters(cluster, pod)
        except Broken:
            now = cluster.kube.find("Pod", pod.name, pod.namespace)
            if now is not None and not pod_facts(now).leaving:
                raise
            what = Draining()
        return DrainingProxy(cluster=cluster, pod=pod, what=what)

    return tuple(found for found in together(read, proxies) if found.what)


def _what_matters(cluster: Cluster, pod: PodFacts) -> Draining:
    found = envoy.draining_of(cluster.kube, pod.namespace, pod.name)
    if not found or found.filter_chains or pod.namespace != names.CLIENT_NAMESPACE:
        return found
    listeners = envoy.draining_listeners(cluster.kube, pod.namespace, pod.name)
    return Draining() if listeners <= {INBOUND} else found


def _drain_time_s(proxy: DrainingProxy) -> float:
    return envoy.drain_time_s(proxy.cluster.kube, proxy.pod.namespace, proxy.pod.name)


def _shown(draining: Sequence[DrainingProxy], since: dict[str, Mark]) -> str:
    """Each with the time of day when it was first seen to drain; at most `MOST_SHOWN`."""
    now = Mark.now()
    lines = [f"{each.name} ({each.what}) since {clock(since.setdefault(each.name, now).wall)}" for each in draining]
    more = [f"{len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    return ", ".join([*lines[:MOST_SHOWN], *more])
