"""istiod's debug endpoints, queried from inside its pod, parsed into records.

`pilot-discovery request` dials 127.0.0.1:15014, and requests from localhost need no credentials
(istio.io/istio, pilot/pkg/xds/debug.go, `allowAuthenticatedOrLocalhost`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import yaml

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.errors import Broken

CONTAINER: Final = "discovery"
SYNCED: Final = "synced"
REJECTED: Final = " rejected: "
"""Separator in the text about a proxy that rejected a resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCluster:
    """A cluster that an istiod reads; `secret` is empty for its own. `status` is `synced` if it is healthy."""

    cluster: str
    secret: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSync:
    """One kind of xDS resource (`Cluster`, `Listener`, …): nonces sent and acknowledged, and the last rejection."""

    kind: str
    sent: str
    acked: str
    error: str

    @property
    def problem(self) -> str | None:
        """The problem, or None; nothing sent is fine, since then nothing was requested."""
        if self.error:
            return f"{self.kind}{REJECTED}{self.error[:300]}"
        if self.sent != self.acked:
            return f"{self.kind} sent but not acknowledged"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySync:
    """A proxy connected to one istiod replica. `proxy` is `<pod>.<namespace>`."""

    proxy: str
    cluster: str
    version: str
    resources: tuple[ResourceSync, ...]

    @property
    def problems(self) -> list[str]:
        return [problem for resource in self.resources if (problem := resource.problem)]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NetworkGateway:
    """A network's gateway, which istiod uses as endpoint for clients on other networks."""

    network: str
    cluster: str
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDomains:
    """The trust domain of a mesh configuration, and its aliases."""

    own: str
    aliases: frozenset[str]

    def __str__(self) -> str:
        return f"{self.own} (aliases {', '.join(sorted(self.aliases))})" if self.aliases else self.own


def trust_domains(kube: Kube, pod: str) -> TrustDomains:
    """The trust domains that this replica uses now, which may differ from its ConfigMap."""
    return parse_trust_domains(debug(kube, pod, "mesh"))


def mesh_config(kube: Kube, pod: str) -> dict[str, Any]:
    """The mesh configuration that this replica uses now."""
    return parse_mesh_config(debug(kube, pod, "mesh"))


def clusterz(kube: Kube, pod: str) -> tuple[KnownCluster, ...]:
    """The clusters that this replica reads, including its own."""
    return parse_clusterz(debug(kube, pod, "clusterz"))


def syncz(kube: Kube, pod: str) -> tuple[ProxySync, ...]:
    """The proxies that are connected to this replica."""
    return parse_syncz(debug(kube, pod, "syncz"))


def networkz(kube: Kube, pod: str) -> tuple[NetworkGateway, ...]:
    """The network gateways that this replica knows."""
    return parse_networkz(debug(kube, pod, "networkz"))


def version(kube: Kube, pod: str) -> str:
    """The version of this replica, for example `1.31.0-<commit>-Clean` (pkg/version, `BuildInfo.String`)."""
    return _get(kube, pod, "/version").strip()


def debug(kube: Kube, pod: str, name: str) -> str:
    """The response of one replica's debug endpoint, for example `syncz`."""
    return _get(kube, pod, f"/debug/{name}")


def _get(kube: Kube, pod: str, path: str) -> str:
    argv = ["pilot-discovery", "request", "GET", path]
    answer = kube.exec(names.SYSTEM_NAMESPACE, pod, argv, container=CONTAINER)
    if answer.exit_code != 0:
        raise Broken(f"{' '.join(argv)} in {pod} on {kube.name}", (answer.stderr or answer.stdout).strip()[-500:])
    return answer.stdout


def parse_clusterz(text: str) -> tuple[KnownCluster, ...]:
    return tuple(
        KnownCluster(
            cluster=entry.get("id") or "", secret=entry.get("secretName") or "", status=entry.get("syncStatus") or ""
        )
        for entry in _entries(text, "clusterz")
    )


def parse_syncz(text: str) -> tuple[ProxySync, ...]:
    return tuple(
        ProxySync(
            proxy=entry.get("proxy") or "",
            cluster=entry.get("cluster_id") or "",
            version=entry.get("istio_version") or "",
            resources=_resources(entry),
        )
        for entry in _entries(text, "syncz")
    )


def parse_networkz(text: str) -> tuple[NetworkGateway, ...]:
    return tuple(
        sorted(
            NetworkGateway(
                network=entry.get("Network") or "",
                cluster=entry.get("Cluster") or "",
                address=entry.get("Addr") or "",
                port=int(entry.get("Port") or 0),
            )
            for entry in _entries(text, "networkz")
        )
    )


def parse_trust_domains(text: str) -> TrustDomains:
    """From `/debug/mesh`, or from the text `mesh` of the ConfigMap `istio`."""
    parsed = parse_mesh_config(text)
    return TrustDomains(
        own=str(parsed.get("trustDomain") or ""),
        aliases=frozenset(str(alias) for alias in parsed.get("trustDomainAliases") or []),
    )


def parse_mesh_config(text: str) -> dict[str, Any]:
    """From the same sources: JSON is YAML."""
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Broken(
            "mesh configuration", f"not a mapping: {text[:200]!r}", "check that this version of Istio is supported"
        )
    return parsed


def _entries(text: str, what: str) -> list[dict[str, Any]]:
    """The list that each of these endpoints returns; Go writes an empty list as `null`."""
    try:
        parsed = json.loads(text)
    except ValueError:
        raise Broken(
            f"/debug/{what} of istiod", f"not JSON: {text[:200]!r}", "check that this version of Istio is supported"
        ) from None
    if not isinstance(parsed, list | None):
        raise Broken(
            f"/debug/{what} of istiod", f"not a list: {text[:200]!r}", "check that this version of Istio is supported"
        )
    return parsed or []


_FLAT: Final = {
    "Cluster": "cluster",
    "Listener": "listener",
    "RouteConfiguration": "route",
    "ClusterLoadAssignment": "endpoint",
    "TypedExtensionConfig": "extensionconfig",
}


def _resources(entry: dict[str, Any]) -> tuple[ResourceSync, ...]:
    """`resources` by type URL; istiods before 1.27 have only a pair of fields for each kind."""
    resources = entry.get("resources")
    if resources:
        return tuple(
            ResourceSync(
                kind=url.rpartition(".")[2],
                sent=state.get("sent") or "",
                acked=state.get("acked") or "",
                error=state.get("lastError") or "",
            )
            for url, state in sorted(resources.items())
        )
    return tuple(
        ResourceSync(
            kind=kind, sent=entry.get(f"{field}_sent") or "", acked=entry.get(f"{field}_acked") or "", error=""
        )
        for kind, field in _FLAT.items()
    )
