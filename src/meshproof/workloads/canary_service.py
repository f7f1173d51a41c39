"""Canaries: Services of our own, with endpoints that come and go, to see whether discovery is alive.

They lie in the clients' namespace, lead to the client pods that are there anyway, and are removed in any case: those of
a run that was killed by the next one (`sweep`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from meshproof.clients import envoy_admin as envoy
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import NotReady
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import SERVICE_OF_SLICE, PodFacts
from meshproof.mesh.snapshot import Snapshot

PREFIX: Final = "meshproof-canary-"
MANAGER: Final = "meshproof-canary"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""Of the Services; an endpoint slice has its Service's name."""
PORT: Final = 80
TARGET_PORT: Final = 8080


def fqdn(name: str) -> str:
    return names.fqdn(name, names.CLIENT_NAMESPACE)


@contextmanager
def canary_services(snapshot: Snapshot, *, headless: bool = False) -> Iterator[str]:
    """A Service without a selector, of the same name in every cluster; yields that name. Removed on the way out."""
    name = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        for facts in snapshot.facts:
            kube = facts.cluster.kube
            stack.callback(kube.delete, "Service", name, names.CLIENT_NAMESPACE)
            kube.create(_service(name, headless=headless))
        yield name


@contextmanager
def canary_endpoint(cluster: Cluster, pod: PodFacts, name: str) -> Iterator[None]:
    """An endpoint of that Service in one cluster, while the context lasts.

    It names the client pod, since across networks only endpoints of pods with a sidecar are given out
    (istio.io/istio, pilot/pkg/xds/endpoints/ep_filters.go, `isMtlsEnabled`).
    """
    try:
        cluster.kube.create(_slice(name, pod))
        yield
    finally:
        cluster.kube.delete("EndpointSlice", name, names.CLIENT_NAMESPACE)


def _service(name: str, *, headless: bool) -> Json:
    port = {"name": "http", "port": PORT, "targetPort": TARGET_PORT, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": names.CLIENT_NAMESPACE, "labels": {MANAGED_BY: MANAGER}},
        "spec": {"ports": [port]} | ({"clusterIP": "None"} if headless else {}),
    }


def _slice(name: str, pod: PodFacts) -> Json:
    reference = {"kind": "Pod", "namespace": pod.namespace, "name": pod.name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": names.CLIENT_NAMESPACE,
            "labels": {SERVICE_OF_SLICE: name, "endpointslice.kubernetes.io/managed-by": MANAGER},
        },
        "addressType": "IPv6" if ":" in pod.address else "IPv4",
        "endpoints": [{"addresses": [pod.address], "conditions": {"ready": True}, "targetRef": reference}],
        "ports": [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}],
    }


def expected_keys(snapshot: Snapshot, viewer: Cluster, server: Cluster) -> frozenset[str]:
    """What a proxy in `viewer` should have for the canary's endpoint in `server`: a pod, or gateways of its network."""
    facts = snapshot.of(server)
    if snapshot.mesh.crosses_network(viewer, server):
        return frozenset(f"{address}:{names.PORT_SERVICES}" for address in facts.gateway_addresses)
    return frozenset({f"{facts.client.address}:{TARGET_PORT}"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """How long the endpoint took to be known and to be forgotten, in seconds; None if it did not within the bound.

    `before` and `seen` are the endpoints that the viewer's proxy had before, and last.
    """

    viewer: str
    server: str
    before: frozenset[str]
    expected: frozenset[str]
    known_s: float | None = None
    gone_s: float | None = None
    seen: frozenset[str] = frozenset()
    bound_s: float = DEADLINES.canary

    @property
    def problems(self) -> list[str]:
        bound = f"within {self.bound_s:g} s"
        if self.before:
            return [f"the canary had endpoints before there were any: {_shown(self.before)}"]
        if not self.expected:
            return [f"{self.server} has no address that {self.viewer} could be given"]
        if self.known_s is None:
            return [f"a new endpoint was not known {bound}: expected {_shown(self.expected)}, had {_shown(self.seen)}"]
        if self.gone_s is None:
            return [f"it was known after {self.known_s:.1f} s, but not gone {bound} after its removal"]
        return []


def _shown(keys: frozenset[str]) -> str:
    return ", ".join(sorted(keys)) or "nothing"


def fly(snapshot: Snapshot, server: Cluster, *, bound_s: float = DEADLINES.canary) -> list[Flight]:
    """Let a canary's endpoint come and go in `server`, and watch it in the client's proxy of every other cluster."""
    viewers = [cluster for cluster in snapshot.mesh.clusters if cluster is not server]
    with canary_services(snapshot) as name:
        before = together(lambda viewer: _seen(snapshot, viewer, name), viewers)
        with canary_endpoint(server, snapshot.of(server).client, name):
            start = time.monotonic()
            known = together(
                lambda viewer: _wait(snapshot, viewer, name, expected_keys(snapshot, viewer, server), start, bound_s),
                viewers,
            )
        start = time.monotonic()
        gone = together(lambda viewer: _wait(snapshot, viewer, name, frozenset(), start, bound_s), viewers)
    return [
        Flight(
            viewer=viewer.name,
            server=server.name,
            before=had,
            expected=expected_keys(snapshot, viewer, server),
            known_s=came[0],
            gone_s=went[0],
            seen=came[1],
            bound_s=bound_s,
        )
        for viewer, had, came, went in zip(viewers, before, known, gone, strict=True)
    ]


def wait_known(snapshot: Snapshot, viewer: Cluster, name: str, server: Cluster | None) -> float | None:
    """Seconds until the client in `viewer` has the canary's endpoint in `server`, or has none (None); None if late."""
    wanted = expected_keys(snapshot, viewer, server) if server is not None else frozenset()
    return _wait(snapshot, viewer, name, wanted, time.monotonic(), DEADLINES.canary)[0]


def _seen(snapshot: Snapshot, viewer: Cluster, name: str) -> frozenset[str]:
    pod = snapshot.of(viewer).client
    found = envoy.endpoints_of(viewer.kube, pod.namespace, pod.name, f"outbound|{PORT}||{fqdn(name)}")
    return frozenset(endpoint.key for endpoint in found)


def _wait(
    snapshot: Snapshot, viewer: Cluster, name: str, wanted: frozenset[str], start: float, bound_s: float
) -> tuple[float | None, frozenset[str]]:
    seen: frozenset[str] = frozenset()

    def check() -> float:
        nonlocal seen
        seen = _seen(snapshot, viewer, name)
        if seen != wanted:
            raise NotYet(_shown(seen))
        return time.monotonic() - start

    try:
        return eventually(check, what="the canary is known", timeout_s=bound_s, poll_s=0.3), seen
    except NotReady:
        return None, seen
