"""Istio's configuration objects: where istiod reads them, what is there, and ours for the time of a probe."""

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
"""The kinds of which istiod reads objects in a config cluster, as far as people write them by hand."""

_GROUPS: Final[Mapping[str, str]] = {
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "PeerAuthentication": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
}

PROBE_DOMAIN: Final = "meshproof.invalid"
"""Of host names that nobody can own (RFC 2606), for routes of our own."""


def istio(kind: str, name: str, namespace: str, spec: Json) -> Json:
    """A configuration object of ours."""
    group = _GROUPS.get(kind, "networking.istio.io/v1")
    return {"apiVersion": group, "kind": kind, "metadata": metadata(name, namespace), "spec": spec}


def opened(
    name: str, namespace: str, selectors: Sequence[Mapping[str, str]], servers: Sequence[Json]
) -> tuple[Json, ...]:
    """A Gateway for each of these selections of pods, all with the same servers; the first has the plain name."""
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
    """What an ingress gateway opens for requests to these hosts."""
    return {"port": {"number": names.PORT_INGRESS, "name": "http", "protocol": "HTTP"}, "hosts": list(hosts)}


def names_of(items: Iterable[Json]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def config_objects(kube: Kube, kinds: Sequence[str] = KINDS) -> list[Json]:
    """All objects of these kinds in one cluster; a kind whose CRD is not there has none."""

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
    """Whether a probe of ours made it, of this run or of one that has just ended: it will be gone soon."""
    meta = item["metadata"]
    return str(meta["name"]).startswith(PROBE_PREFIX) or names.is_probe_namespace(str(meta["namespace"]))


PROBE_PREFIX: Final = "meshproof-probe-"


def probe_route(word: str) -> tuple[str, Json]:
    """A VirtualService for a host that nobody has, answered by the proxy itself; also returns the host."""
    name = f"{PROBE_PREFIX}{word}-{uuid.uuid4().hex[:8]}"
    host = f"{name}.{PROBE_DOMAIN}"
    spec = {"hosts": [host], "http": [{"directResponse": {"status": 200, "body": {"string": word}}}]}
    return host, istio("VirtualService", name, names.OUTSIDE_NAMESPACE, spec)
