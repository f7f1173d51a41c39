"""Faults of networks: their names, and the connections between them."""

from __future__ import annotations

from typing import Final

from meshproof.claims.claim import ACROSS_NETWORKS, REMOTES
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.rollout import deployment_ready
from meshproof.core import names
from meshproof.faults.catalogue.common import ACROSS, NEW_PODS, SHARED_NETWORK_ONLY, gateway_service_key, without_label
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault, mesh_is_unhealthy
from meshproof.workloads.app import app_deployment_name


def _no_network_label(editor: JournalledEditor) -> None:
    editor.edit(editor.far, "Namespace", names.SYSTEM_NAMESPACE, None, without_label(names.NETWORK_LABEL))


def _one_name_for_two(editor: JournalledEditor) -> None:
    def change(deployment: Json) -> None:
        labels = deployment["spec"]["template"]["metadata"].setdefault("labels", {})
        labels[names.NETWORK_LABEL] = editor.near.network

    name = app_deployment_name(editor.far.spec)
    editor.edit(editor.far, "Deployment", name, names.APP_NAMESPACE, change)
    deployment_ready(editor.far.kube, names.APP_NAMESPACE, name, timeout_s=90.0)


def _gateway_without_network(editor: JournalledEditor) -> None:
    editor.edit(editor.far, *gateway_service_key(editor.far.spec.east_west), without_label(names.NETWORK_LABEL))


def _services_blocked(editor: JournalledEditor) -> None:
    editor.block(editor.near, editor.far, ports=(names.PORT_SERVICES,))


def _control_blocked(editor: JournalledEditor) -> None:
    editor.block(editor.far, editor.mesh.control_plane_of(editor.far), ports=(names.PORT_XDS, names.PORT_WEBHOOK))


def _pods_blocked(editor: JournalledEditor) -> None:
    editor.block(editor.near, editor.far)


NETWORK: Final = (
    Fault(
        id="N1",
        sentence="istio-system of one cluster lacks the label topology.istio.io/network",
        seen="half of the requests to pods without their own network label time out",
        source="istio.io, Install Multi-Primary on different networks: set the default network",
        needs=(ACROSS_NETWORKS,),
        kills=("DISCOVERY-07",),
        also=("DISCOVERY-02", "GATEWAYS-07", *ACROSS),
        note="injected pods have their own network label, so only pods without a sidecar are affected",
        inject=_no_network_label,
    ),
    Fault(
        id="N2",
        sentence="pods of one network have the network label of another",
        seen="half of the requests time out on pod addresses of the other network",
        source="the same network name for two networks; istio/istio issues on 503 UF with multi-network",
        needs=(ACROSS_NETWORKS,),
        kills=("DISCOVERY-02", "DISCOVERY-07"),
        also=("GATEWAYS-02", "GATEWAYS-03", *ACROSS),
        inject=_one_name_for_two,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="N3",
        sentence="the Service of one east-west gateway lacks the label topology.istio.io/network",
        seen="half of the requests time out on pod addresses of the other network",
        source="istio.io, samples/multicluster/gen-eastwest-gateway.sh without --network",
        needs=(ACROSS_NETWORKS,),
        kills=("DISCOVERY-02", "GATEWAYS-07"),
        also=("DISCOVERY-07", *ACROSS),
        inject=_gateway_without_network,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="N9",
        sentence="a firewall between the networks drops port 15443 in one direction",
        seen="requests time out, although ping works",
        source="cloud firewalls and security groups; istio.io, Troubleshooting Multicluster",
        needs=(ACROSS_NETWORKS,),
        kills=("GATEWAYS-01",),
        also=("GATEWAYS-02", "GATEWAYS-03", "GATEWAYS-06", "GATEWAYS-10", *ACROSS),
        inject=_services_blocked,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="N9B",
        sentence="a firewall drops ports 15012 and 15017 between a remote and its primary",
        seen="running pods keep their configuration; new pods are rejected",
        source="cloud firewalls and security groups",
        needs=(REMOTES,),
        kills=("GATEWAYS-01", "CONTROL-02"),
        also=(
            "GATEWAYS-04",
            "GATEWAYS-05",
            "GATEWAYS-06",
            "GATEWAYS-10",
            "CONTROL-01",
            "CONTROL-03",
            "CONTROL-04",
            "DISCOVERY-03",
            "DISCOVERY-05",
            "DISCOVERY-07",
            "TRUST-09",
            *NEW_PODS,
        ),
        inject=_control_blocked,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="N9C",
        sentence="pods of two clusters cannot connect to each other, although the topology has them on one network",
        seen="half of the requests time out, although ping between nodes works",
        source="missing routes or peering; istio.io: on one network all pods can connect to each other",
        needs=(SHARED_NETWORK_ONLY,),
        kills=("TRUST-05", "TRAFFIC-02"),
        also=ACROSS,
        inject=_pods_blocked,
        has_taken_effect=mesh_is_unhealthy,
    ),
)
