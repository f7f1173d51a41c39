"""Live checks of what a surviving istiod must still do: inject, sign, route and follow endpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import yaml

from meshproof.clients import envoy_admin as envoy
from meshproof.clients.istio.configuration import probe_route
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import core, metadata, service
from meshproof.clients.kubernetes.pods import pod_spec
from meshproof.controlplane.config_propagation import hosts_arrive
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import BOUNDS, DEADLINES
from meshproof.core.errors import Broken, ClaimFailed, NotReady
from meshproof.core.waiting import NotYet, eventually
from meshproof.discovery.propagation import wait_known
from meshproof.mesh.configuration import applied
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki.verify import subject
from meshproof.probes.http import http_from_pod
from meshproof.workloads.app import LISTEN_PORT, app_envoy_config, envoy_container
from meshproof.workloads.canary_service import canary_endpoint, canary_services
from meshproof.workloads.ephemeral import await_root_map, fresh_namespace, ready_pod

SERVED: Final = "meshproof-served"
SKEW: Final = timedelta(minutes=2)
"""istiod backdates certificates by this much (`ClockSkewGracePeriod`)."""


@dataclass(slots=True, kw_only=True)
class CapabilityResults:
    """Problems (empty: none) and duration in seconds of each capability that was tried."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def try_capabilities(snapshot: Snapshot, primary: Cluster, *, namespace: str = "") -> CapabilityResults:
    """Have the istiod of `primary` inject, sign, route and follow endpoints in every cluster, all concurrently.

    The pod is created in `namespace`; by default in a new one, where nothing is cached from earlier.
    """
    tasks: dict[str, Callable[[], object]] = {
        "a new pod is injected, gets a new certificate, and serves": lambda: _pod_serves(snapshot, primary, namespace),
        "a new route reaches the proxies": lambda: _route_arrives(snapshot, primary),
    }
    for server in snapshot.mesh.clusters:
        tasks[f"endpoint changes in {server} are followed"] = partial(_endpoint_followed, snapshot, primary, server)
    results = CapabilityResults()

    def attempt(name: str) -> None:
        start = time.monotonic()
        try:
            tasks[name]()
            results.problems[name] = []
        except (ClaimFailed, Broken) as problem:
            results.problems[name] = [str(problem)]
        results.seconds[name] = round(time.monotonic() - start, 2)

    together(attempt, tasks)
    return results


@contextmanager
def served_namespace(mesh: Mesh, primary: Cluster) -> Iterator[str]:
    """The name of a new namespace that already has istiod's root certificate; removed afterwards."""
    with fresh_namespace(mesh, primary) as namespace:
        await_root_map(primary.kube, namespace, timeout_s=DEADLINES.root_config_map_s)
        yield namespace


def new_namespace_served_s(mesh: Mesh, primary: Cluster) -> float | None:
    """Seconds from creating a namespace until istiod has written its root certificate; None: not within the bound.

    Only the leading replica does this, and the pods of a new namespace wait for it.
    """
    with fresh_namespace(mesh, primary) as namespace:
        begin = time.monotonic()
        try:
            await_root_map(primary.kube, namespace, timeout_s=BOUNDS.leader.seconds)
        except NotReady:
            return None
        return time.monotonic() - begin


def _pod_serves(snapshot: Snapshot, primary: Cluster, existing: str) -> None:
    begin = datetime.now(UTC)
    kube, client = primary.kube, snapshot.of(primary).client
    with nullcontext(existing) if existing else fresh_namespace(snapshot.mesh, primary) as namespace:
        text = yaml.safe_dump(app_envoy_config(primary.spec), sort_keys=False)
        kube.apply(core("ConfigMap", metadata(SERVED, namespace), data={"envoy.yaml": text}))
        port = {"name": "http", "port": names.APP_PORT, "targetPort": LISTEN_PORT}
        kube.apply(service(SERVED, namespace, {"selector": {"app": SERVED}, "ports": [port]}))
        pod = ready_pod(snapshot.mesh, primary, namespace, _pod(namespace, snapshot.mesh.toolbox.images["app"]))
        leaf = envoy.identity_of(kube, namespace, pod.name).leaf
        if leaf.not_valid_before_utc + SKEW < begin - timedelta(seconds=5):
            raise ClaimFailed(f"its certificate is older than the pod: valid from {leaf.not_valid_before_utc}")
        if leaf.issuer not in {issuer.subject for issuer in snapshot.issuer_of(primary).issuers}:
            raise ClaimFailed(f"its certificate {subject(leaf)} has the wrong issuer: {leaf.issuer.rfc4514_string()}")
        url = f"http://{names.fqdn(SERVED, namespace)}:{names.APP_PORT}/"

        def must_serve() -> None:
            found = http_from_pod(kube, client, url, 2, timeout_s=2.0)
            if bad := [response.outcome for response in found if not response.ok]:
                raise NotYet(f"a request to it failed: {bad[0]}")

        eventually(must_serve, what="the new pod serves", timeout_s=DEADLINES.canary_s, error=ClaimFailed)


def _pod(namespace: str, image: str) -> Json:
    volumes = [{"name": "config", "configMap": {"name": SERVED}}]
    spec = pod_spec([envoy_container(SERVED, image, LISTEN_PORT)], grace_s=0, volumes=volumes)
    return core("Pod", metadata(SERVED, namespace, labels={"app": SERVED}), spec=spec)


def _route_arrives(snapshot: Snapshot, primary: Cluster) -> None:
    host, manifest = probe_route("control")
    governed = [str(cluster.name) for cluster in snapshot.mesh.controlled_by(primary)]
    with applied([(primary, manifest)]):
        hosts_arrive(snapshot, {name: {host} for name in governed}, of={host})


def _endpoint_followed(snapshot: Snapshot, primary: Cluster, server: Cluster) -> None:
    """Clients that `primary` controls learn of an endpoint that is added and removed in `server`."""
    viewers = snapshot.mesh.controlled_by(primary)
    with canary_services(snapshot) as name, ExitStack() as stack:
        stack.enter_context(canary_endpoint(server, snapshot.of(server).client, name))
        late = [v for v in viewers if wait_known(snapshot, v, name, server) is None]
        if late:
            raise ClaimFailed(
                f"the new endpoint did not reach {', '.join(map(str, late))} within {DEADLINES.canary_s:g} s"
            )
        stack.close()
        late = [v for v in viewers if wait_known(snapshot, v, name, None) is None]
        if late:
            raise ClaimFailed(
                f"the removed endpoint is still in {', '.join(map(str, late))} after {DEADLINES.canary_s:g} s"
            )


# -- xDS streams that proxies open ------------------------------------------------------------------------------------

Dials = int
"""How many xDS streams a proxy has opened to its control plane so far."""
_STREAMS: Final = r"^cluster\.xds-grpc;?\.upstream_rq_total$"


def dials(snapshot: Snapshot, clusters: Iterable[Cluster]) -> Mapping[str, Dials]:
    """The count for every proxy of these clusters, by `cluster namespace/pod`.

    The proxy's own agent accepts these streams, and closes them while it cannot reach istiod.
    """
    proxies = [(cluster, pod) for cluster in clusters for pod in snapshot.of(cluster).proxies]
    found = together(lambda p: envoy.stats(p[0].kube, p[1].namespace, p[1].name, _STREAMS), proxies)
    return {f"{c} {pod}": sum(counted.values()) for (c, pod), counted in zip(proxies, found, strict=True)}
