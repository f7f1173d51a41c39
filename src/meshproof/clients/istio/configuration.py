"""Istio's configuration objects: the kinds that istiod reads, those of a cluster, and temporary ones of probes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from meshproof.clients.kubernetes.client import ApiError, Json, Kube
from meshproof.clients.kubernetes.manifests import metadata
from meshproof.core import names
from meshproof.core.concurrency import together

KINDS: Final = (
    "Gateway",
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "Sidecar",
    "EnvoyFilter",
    "PeerAuthentication",
    "RequestAuthentication",
    "AuthorizationPolicy",
    "Telemetry",
)
"""The kinds of objects that istiod reads in a config cluster and that people write by hand."""

_GROUPS: Final[Mapping[str, str]] = {
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "PeerAuthentication": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
}

EXPORTED: Final = frozenset({"VirtualService", "DestinationRule", "ServiceEntry"})
"""Kinds with `exportTo`."""

PROBE_DOMAIN: Final = "meshproof.invalid"
"""Domain that cannot be registered (RFC 2606), for our own routes."""


def istio(kind: str, name: str, namespace: str, spec: Json) -> Json:
    """A configuration object with our label.

    Unless its spec says otherwise, it is exported to all namespaces, whatever the mesh's default is.
    """
    group = _GROUPS.get(kind, "networking.istio.io/v1")
    spec = ({"exportTo": ["*"]} if kind in EXPORTED else {}) | spec
    return {"apiVersion": group, "kind": kind, "metadata": metadata(name, namespace), "spec": spec}


def opened(
    name: str, namespace: str, selectors: Sequence[Mapping[str, str]], servers: Sequence[Json]
) -> tuple[Json, ...]:
    """One Gateway per pod selector, all with the same servers; the first has the plain name."""
    return tuple(
        istio(
            "Gateway",
            name if number == 1 else f"{name}-{number}",
            namespace,
            {"selector": dict(selector), "servers": list(servers)},
        )
        for number, selector in enumerate(selectors, start=1)
    )


def ingress_server(hosts: Iterable[str]) -> Json:
    """The server of an ingress gateway for requests to these hosts."""
    return {"port": {"number": names.PORT_INGRESS, "name": "http", "protocol": "HTTP"}, "hosts": list(hosts)}


def names_of(items: Iterable[Json]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def config_objects(kube: Kube, kinds: Sequence[str] = KINDS) -> list[Json]:
    """All objects of these kinds in one cluster; a kind without a CRD has none."""

    def read(kind: str) -> list[Json]:
        try:
            return [{**item, "kind": kind} for item in kube.list(kind)]
        except ApiError as problem:
            if problem.status == 404:
                return []
            raise

    return [item for items in together(read, kinds, width=5) for item in items]


def place_of(item: Json) -> str:
    """`VirtualService meshproof-app/mockshop`."""
    meta = item["metadata"]
    return f"{item['kind']} {meta['namespace']}/{meta['name']}"


def is_probe(item: Json) -> bool:
    """Whether a probe created it, of this run or of one that has just ended: it is temporary."""
    meta = item["metadata"]
    return str(meta["name"]).startswith(PROBE_PREFIX) or names.is_probe_namespace(str(meta["namespace"]))


PROBE_PREFIX: Final = "meshproof-probe-"


def probe_route(word: str) -> tuple[str, Json]:
    """A VirtualService for an unused host, answered by the proxy itself; also returns the host."""
    name = f"{PROBE_PREFIX}{word}-{uuid.uuid4().hex[:8]}"
    host = f"{name}.{PROBE_DOMAIN}"
    spec = {"hosts": [host], "http": [{"directResponse": {"status": 200, "body": {"string": word}}}]}
    return host, istio("VirtualService", name, names.OUTSIDE_NAMESPACE, spec)
