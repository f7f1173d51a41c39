"""Canary Services: `meshproof.discovery` adds and removes their endpoints, and watches whether proxies follow.

They are in the clients' namespace, use the existing client pods as endpoints, and are always removed. Those of a killed
run are removed by the next run (`remove_stale_probes`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import service
from meshproof.core import names
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import SERVICE_OF_SLICE, PodFacts
from meshproof.mesh.snapshot import Snapshot

PREFIX: Final = "meshproof-canary-"
MANAGER: Final = "meshproof-canary"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""Label selector of the Services; an EndpointSlice has the name of its Service."""
PORT: Final = 80
TARGET_PORT: Final = 8080


def canary_fqdn(name: str) -> str:
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
    """An endpoint of that Service in one cluster, for the duration of the block.

    It refers to the client pod: across networks istiod sends only endpoints of pods with a sidecar
    (istio.io/istio, pilot/pkg/xds/endpoints/ep_filters.go, `isMtlsEnabled`).
    """
    try:
        cluster.kube.create(_slice(name, pod))
        yield
    finally:
        cluster.kube.delete("EndpointSlice", name, names.CLIENT_NAMESPACE)


def _service(name: str, *, headless: bool) -> Json:
    port = {"name": "http", "port": PORT, "targetPort": TARGET_PORT, "protocol": "TCP"}
    spec = {"ports": [port]} | ({"clusterIP": "None"} if headless else {})
    return service(name, names.CLIENT_NAMESPACE, spec, labels={MANAGED_BY: MANAGER})


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
