"""Variants of gateways between networks."""

from __future__ import annotations

import threading
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, Final

import yaml

from meshproof.calibration.variants.common import SYSTEM, mesh_config_key, unlabelled, with_east_west
from meshproof.calibration.variants.variant import Variant
from meshproof.claims.claim import ACROSS_NETWORKS
from meshproof.clients.istio.istiod_debug import networkz
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.rollout import external_address, names_of_pods
from meshproof.core import names
from meshproof.core.errors import Broken
from meshproof.core.model import GatewayRef
from meshproof.core.waiting import NotYet
from meshproof.faults.catalogue.common import gateway_service_key
from meshproof.faults.editor import JournalledEditor
from meshproof.install.gateways import GatewaySpec, gateway_deployment, gateway_services, gateways_of
from meshproof.mesh.handles import Cluster

SECOND: Final = "-2"
ADDRESS_S: Final = 60.0
POOL_PREFIX: Final = 24
LAST_OF_POOL: Final = 250


def _address_of(cluster: Cluster) -> str:
    return _external_address(cluster, cluster.spec.east_west)


def _external_address(cluster: Cluster, gateway: GatewayRef) -> str:
    kube, aborted = cluster.kube, threading.Event()
    return external_address(kube, gateway.namespace, gateway.name, timeout_s=ADDRESS_S, aborted=aborted)


def _two_addresses(editor: JournalledEditor) -> None:
    """One more address of the pool from which the load balancer's is: the node answers for both."""
    for cluster in with_east_west(editor, editor.mesh.clusters):
        pool = ip_network(f"{_address_of(cluster)}/{POOL_PREFIX}", strict=False)
        further = str(ip_address(int(pool.network_address) + LAST_OF_POOL))

        def change(service: Json, further: str = further) -> None:
            service["spec"]["externalIPs"] = [further]

        editor.edit(cluster, *gateway_service_key(cluster.spec.east_west), change)


def _two_gateways(editor: JournalledEditor) -> None:
    """A second Deployment and Service beside each, whose pods the same Gateway objects select."""
    for cluster in with_east_west(editor, editor.mesh.clusters):
        first = next(g for g in gateways_of(editor.topology, cluster.spec) if g.ref == cluster.spec.east_west)
        second = replace(first, ref=GatewayRef(first.namespace, first.name + SECOND))
        for manifest in (*gateway_services(second), gateway_deployment(second)):
            editor.add(cluster, unlabelled(_with_label_of(first, second, manifest)))
        _external_address(cluster, second.ref)


def _with_label_of(first: GatewaySpec, second: GatewaySpec, part: Any) -> Any:
    """The second gateway's manifest with the first one's value of the label `istio`."""
    if isinstance(part, dict):
        return {key: _with_label_of(first, second, value) for key, value in part.items()}
    if isinstance(part, list):
        return [_with_label_of(first, second, value) for value in part]
    return first.ref.label if part == second.ref.label else part


def _mesh_networks(editor: JournalledEditor) -> None:
    """The networks as configuration, and no label on the Services that would say the same."""
    clusters = editor.mesh.clusters
    networks: dict[str, Json] = {}
    for cluster in clusters:
        network = networks.setdefault(cluster.network, {"endpoints": [], "gateways": []})
        network["endpoints"].append({"fromRegistry": cluster.name})
        network["gateways"].append({"address": _address_of(cluster), "port": names.PORT_SERVICES})

    def configure(found: Json) -> None:
        found["data"]["meshNetworks"] = yaml.safe_dump({"networks": networks})

    def unlabel(service: Json) -> None:
        (service["metadata"].get("labels") or {}).pop(names.NETWORK_LABEL, None)

    for primary in editor.mesh.primaries:
        editor.edit(primary, *mesh_config_key(primary), configure)
    for cluster in clusters:
        editor.edit(cluster, *gateway_service_key(cluster.spec.east_west), unlabel)


def _every_network_has_a_gateway(editor: JournalledEditor) -> None:
    for primary in editor.mesh.primaries:
        pods = names_of_pods(primary.kube, SYSTEM, names.ISTIOD)
        if not pods:
            raise Broken(f"istiod of {primary}", "it has no pod", "install the mesh again")
        for pod in pods:
            known = {gateway.network for gateway in networkz(primary.kube, pod)}
            if missing := set(editor.topology.networks) - known:
                raise NotYet(f"{primary} {pod} knows no gateway of {', '.join(sorted(missing))}")


def _each_has_two(editor: JournalledEditor) -> None:
    for primary in editor.mesh.primaries:
        for pod in names_of_pods(primary.kube, SYSTEM, names.ISTIOD):
            known = networkz(primary.kube, pod)
            for network in editor.topology.networks:
                addresses = {gateway.address for gateway in known if gateway.network == network}
                if len(addresses) < 2:
                    raise NotYet(f"{primary} {pod} knows one address of {network}: {', '.join(addresses) or 'none'}")


EAST_WEST: Final = (
    Variant(
        id="two-addresses",
        sentence="each east-west gateway has two addresses",
        legal="Kubernetes, Services: externalIPs; istio.io, Deployment models, Multiple networks",
        needs=(ACROSS_NETWORKS,),
        apply=_two_addresses,
        has_taken_effect=_each_has_two,
    ),
    Variant(
        id="two-gateways",
        sentence="each network has two east-west gateways",
        legal="istio.io, Deployment models, Multiple networks: every Service with the network's label is a gateway",
        needs=(ACROSS_NETWORKS,),
        apply=_two_gateways,
        has_taken_effect=_each_has_two,
        still_kills=("S1",),
    ),
    Variant(
        id="mesh-networks",
        sentence="gateways of networks are configured by meshNetworks, not by labels",
        legal="istio.io, Global Mesh Options: MeshNetworks",
        needs=(ACROSS_NETWORKS,),
        apply=_mesh_networks,
        has_taken_effect=_every_network_has_a_gateway,
        still_kills=("G4",),
    ),
)
