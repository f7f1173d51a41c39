"""Gateways of live clusters, found by their Service, independent of pod labels."""

from __future__ import annotations

from collections.abc import Sequence

from meshproof.clients.istio.configuration import ingress_server, opened
from meshproof.clients.kubernetes.client import Json, label_selector
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken
from meshproof.core.model import GatewayRef
from meshproof.mesh.handles import Cluster, Mesh


def selector_of(cluster: Cluster, gateway: GatewayRef) -> dict[str, str]:
    """The selector of a gateway's Service. Raises `Broken` if there is no such Service."""
    service = cluster.kube.find("Service", gateway.name, gateway.namespace)
    selector: dict[str, str] = ((service or {}).get("spec") or {}).get("selector") or {}
    if not selector:
        reason = "it has no pod selector" if service else "it does not exist"
        raise Broken(f"Service {gateway} on {cluster}", reason, "name the cluster's gateways in the topology file")
    return selector


def gateway_pods(cluster: Cluster, gateway: GatewayRef) -> list[Json]:
    """The pods behind a gateway's Service."""
    return cluster.kube.list("Pod", gateway.namespace, labels=label_selector(selector_of(cluster, gateway)))


def opened_at_ingress(
    mesh: Mesh, primary: Cluster, name: str, namespace: str, hosts: Sequence[str]
) -> tuple[Json, ...]:
    """The Gateway objects for requests to these hosts on the ingress gateways of all clusters that `primary` controls;
    none if none of them has an ingress gateway."""
    return opened(name, namespace, ingress_selectors(mesh, primary), [ingress_server(hosts)])


def ingress_selectors(mesh: Mesh, primary: Cluster) -> list[dict[str, str]]:
    """The pod selectors of the ingress gateways of all clusters that `primary` controls, without duplicates."""
    found: list[dict[str, str]] = []
    gateways = [(c, c.spec.ingress) for c in mesh.controlled_by(primary) if c.spec.ingress]
    for selector in together(lambda item: selector_of(*item), gateways):
        found += [] if selector in found else [selector]
    return found
