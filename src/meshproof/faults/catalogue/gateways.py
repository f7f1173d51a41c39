"""Faults of gateways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshproof.claims.claim import ACROSS_NETWORKS, REMOTES
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.faults.catalogue.common import (
    ACROSS,
    NEW_PODS,
    NEW_SERVICES_ACROSS,
    config,
    gateway_deployment_key,
    gateway_service_key,
)
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault, mesh_is_unhealthy
from meshproof.faults.istiod_replicas import await_gone
from meshproof.faults.undo import EAST_WEST
from meshproof.install.gateways import cross_network_gateway_of
from meshproof.mesh.gateways import gateway_pods

CLOSED: Final = ("GATEWAYS-02", "GATEWAYS-03", *ACROSS)
UNREACHABLE: Final = ("GATEWAYS-01", "GATEWAYS-06", "GATEWAYS-10", *CLOSED)


def _close_connections_when_healed(editor: JournalledEditor) -> None:
    """A changed listener closes its old connections 45 s later (`drainDuration`), possibly during a request."""
    for cluster in editor.mesh.controlled_by(editor.far_config):
        editor.restart_when_healed(cluster, EAST_WEST)


def _no_address(editor: JournalledEditor) -> None:
    def change(service: Json) -> None:
        service["spec"]["type"] = "ClusterIP"
        for key in ("externalTrafficPolicy", "allocateLoadBalancerNodePorts", "healthCheckNodePort"):
            service["spec"].pop(key, None)
        for port in service["spec"]["ports"]:
            port.pop("nodePort", None)

    editor.edit(editor.far, *gateway_service_key(editor.far.spec.east_west), change)


def _exposing(editor: JournalledEditor) -> tuple[str, str, str]:
    """The Gateway that opens 15443 at the far cluster's gateway, in the config cluster of its istiod."""
    return "Gateway", cross_network_gateway_of(editor.topology, editor.far.spec), names.SYSTEM_NAMESPACE


def _not_exposed(editor: JournalledEditor) -> None:
    editor.remove(editor.far_config, *_exposing(editor))


def _edit_servers(editor: JournalledEditor, key: str, value: object) -> None:
    def change(gateway: Json) -> None:
        for server in gateway["spec"]["servers"]:
            server[key] = value

    editor.edit(editor.far_config, *_exposing(editor), change)


def _other_hosts(editor: JournalledEditor) -> None:
    _edit_servers(editor, "hosts", ["*.example.com"])


def _plain_passthrough(editor: JournalledEditor) -> None:
    _edit_servers(editor, "tls", {"mode": "PASSTHROUGH"})


def _other_selector(editor: JournalledEditor) -> None:
    def change(gateway: Json) -> None:
        gateway["spec"]["selector"] = {"istio": "eastwest-gateway"}

    editor.edit(editor.far_config, *_exposing(editor), change)


def _declared_twice(editor: JournalledEditor) -> None:
    _close_connections_when_healed(editor)
    server = {
        "port": {"number": names.PORT_SERVICES, "name": "tls", "protocol": "TLS"},
        "tls": {"mode": "AUTO_PASSTHROUGH"},
        "hosts": ["*.svc.cluster.local"],
    }
    spec = {"selector": {"istio": editor.far.spec.east_west.label}, "servers": [server]}
    editor.add(editor.far_config, config("Gateway", "cross-network-again", spec, names.SYSTEM_NAMESPACE))


def _no_pods(editor: JournalledEditor) -> None:
    """Pods are deleted without a grace period: a terminating pod would serve for another half minute."""
    gateway = editor.far.spec.east_west
    there = [pod["metadata"]["name"] for pod in gateway_pods(editor.far, gateway)]

    def change(deployment: Json) -> None:
        deployment["spec"]["replicas"] = 0

    editor.edit(editor.far, *gateway_deployment_key(gateway), change)
    for name in there:
        editor.far.kube.delete("Pod", name, gateway.namespace, grace_s=0)
    await_gone(editor.far.kube, gateway.namespace, f"istio={gateway.label}")


def _plain_port(editor: JournalledEditor) -> None:
    def change(service: Json) -> None:
        service["spec"]["type"] = "LoadBalancer"

    editor.edit(editor.near, "Service", editor.near.spec.istiod, names.SYSTEM_NAMESPACE, change)


def _without_webhook_port(editor: JournalledEditor) -> None:
    def gateway(found: Json) -> None:
        servers = found["spec"]["servers"]
        found["spec"]["servers"] = [s for s in servers if s["port"]["number"] != names.PORT_WEBHOOK]

    def routes(found: Json) -> None:
        tls = found["spec"]["tls"]
        found["spec"]["tls"] = [r for r in tls if r["match"][0]["port"] != names.PORT_WEBHOOK]

    editor.edit(editor.near, "VirtualService", "istiod-vs", names.SYSTEM_NAMESPACE, routes)
    editor.edit(editor.near, "Gateway", names.ISTIOD_GATEWAY, names.SYSTEM_NAMESPACE, gateway)
    # The API server would keep using its open connection for injection.
    editor.restart_api_server(editor.far)


def _not_exposing(*, id: str, sentence: str, source: str, inject: Callable[[JournalledEditor], None]) -> Fault:
    """A fault of the cross-network Gateway; all of them make the gateway close connections."""

    def wholly(editor: JournalledEditor) -> None:
        _close_connections_when_healed(editor)
        inject(editor)

    return Fault(
        id=id,
        sentence=sentence,
        seen="requests to remote endpoints fail: connection reset",
        source=source,
        needs=(ACROSS_NETWORKS,),
        kills=("GATEWAYS-02",),
        also=(*UNREACHABLE, "CONTROL-05"),
        inject=wholly,
        has_taken_effect=mesh_is_unhealthy,
    )


GATEWAYS: Final = (
    Fault(
        id="G1",
        sentence="one east-west gateway has no external address",
        seen="endpoints have pod addresses of the other network; half of the requests time out",
        source="a cloud without load balancers, or with their quota exhausted: the Service stays <pending>",
        needs=(ACROSS_NETWORKS,),
        kills=("GATEWAYS-01", "DISCOVERY-02"),
        also=("GATEWAYS-07", *UNREACHABLE),
        inject=_no_address,
        has_taken_effect=mesh_is_unhealthy,
    ),
    _not_exposing(
        id="G4",
        sentence="the cross-network Gateway is missing",
        source="istio.io, Install on different networks: expose services; omitted in the second cluster",
        inject=_not_exposed,
    ),
    Fault(
        id="G6",
        sentence="port 15443 is declared by two Gateways with overlapping hosts",
        seen="proxies reject the new listener and keep the old one",
        source="istio/istio issues on 'multiple filter chains with the same matching rules'",
        needs=(ACROSS_NETWORKS,),
        kills=("DISCOVERY-05",),
        also=("CONTROL-03", "CONTROL-05", "GATEWAYS-03", *NEW_SERVICES_ACROSS),
        note="the old listener has the services known before; new services are unreachable through it",
        inject=_declared_twice,
        has_taken_effect=mesh_is_unhealthy,
    ),
    _not_exposing(
        id="G7",
        sentence="the hosts of the cross-network Gateway do not include *.local",
        source="hosts restricted to a company domain",
        inject=_other_hosts,
    ),
    _not_exposing(
        id="G8",
        sentence="the cross-network Gateway has TLS mode PASSTHROUGH instead of AUTO_PASSTHROUGH",
        source="istio/istio discussions: the mode differs from that of an ordinary Gateway",
        inject=_plain_passthrough,
    ),
    _not_exposing(
        id="G9",
        sentence="the selector of the cross-network Gateway matches no gateway",
        source="gateways of the Helm chart have other labels than those of istioctl",
        inject=_other_selector,
    ),
    Fault(
        id="G10",
        sentence="one east-west gateway has no pods",
        seen="requests to remote endpoints fail: connection refused",
        source="an HPA, a quota or a node drain",
        needs=(ACROSS_NETWORKS,),
        kills=("GATEWAYS-01", "GATEWAYS-02"),
        also=(*UNREACHABLE, "DISCOVERY-07", "GATEWAYS-07"),
        inject=_no_pods,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="G11",
        sentence="istiod has an external address that exposes its plain-text ports",
        seen="nothing; anyone outside the cluster can read the mesh configuration",
        source="istio.io, Security best practices; a Service changed for an experiment",
        kills=("GATEWAYS-06",),
        inject=_plain_port,
    ),
    Fault(
        id="G12",
        sentence="the primary exposes port 15012 but not 15017",
        seen="running pods work, new pods in the remote are rejected",
        source="istio.io, samples/multicluster/expose-istiod.yaml exposes both; often one is removed in review",
        needs=(REMOTES,),
        kills=("GATEWAYS-05", "CONTROL-02"),
        also=("GATEWAYS-01", "GATEWAYS-06", "CONTROL-01", "TRUST-09", *NEW_PODS),
        inject=_without_webhook_port,
        has_taken_effect=mesh_is_unhealthy,
    ),
)
