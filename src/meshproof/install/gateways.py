"""Gateways by injection, with exactly the ports that a topology needs, and the Istio configuration for them.

The manifests follow Istio's `gateway` chart (manifests/charts/gateway) and samples/multicluster: istiod fills in the
container, since the pods use the injection template `gateway`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshproof.clients.istio.configuration import ingress_server, istio, names_of, opened
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import core, deployment, metadata
from meshproof.core.model import ClusterSpec, GatewayRef, Topology
from meshproof.core.names import (
    APP_FQDN,
    APP_HOST,
    APP_NAMESPACE,
    APP_PORT,
    APP_SERVICE,
    CROSS_NETWORK_GATEWAY,
    DEFAULT_REVISION,
    DIAGNOSTIC_HEADERS,
    ISTIOD_GATEWAY,
    NETWORK_LABEL,
    PORT_SERVICES,
    PORT_WEBHOOK,
    PORT_XDS,
    PROXY,
    REVISION_LABEL,
    SYSTEM_NAMESPACE,
    fqdn,
)

PORT_STATUS = 15021


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySpec:
    """One gateway: its ports by name, and its network if it is a cross-network gateway.

    `revision` is that of the istiod that injects it.
    """

    ref: GatewayRef
    ports: Mapping[str, int]
    network: str | None = None
    revision: str = DEFAULT_REVISION

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def namespace(self) -> str:
        return self.ref.namespace

    @property
    def selector(self) -> dict[str, str]:
        return {"app": self.name, "istio": self.ref.label}

    @property
    def labels(self) -> dict[str, str]:
        """The network label makes the Service's addresses the network's gateways."""
        return self.selector | ({NETWORK_LABEL: self.network} if self.network else {})


def gateways_of(topology: Topology, cluster: ClusterSpec) -> tuple[GatewaySpec, ...]:
    """The gateways of a cluster: ingress if it has one, east-west where another cluster needs a port."""
    ingress: tuple[GatewaySpec, ...] = ()
    if cluster.ingress:
        ports = {"status-port": PORT_STATUS, "http2": 80}
        ingress = (GatewaySpec(ref=cluster.ingress, ports=ports, revision=cluster.revision),)
    if not topology.needs_east_west_gateway(cluster):
        return ingress
    ports = {"status-port": PORT_STATUS}
    if topology.exposes_services(cluster):
        ports["tls"] = PORT_SERVICES
    if topology.exposes_istiod(cluster):
        ports |= {"tls-istiod": PORT_XDS, "tls-webhook": PORT_WEBHOOK}
    network = cluster.network if topology.exposes_services(cluster) else None
    return *ingress, GatewaySpec(ref=cluster.east_west, ports=ports, network=network, revision=cluster.revision)


def gateway_services(gateway: GatewaySpec) -> tuple[Json, ...]:
    """Objects that can exist before istiod: the Service (its address takes time), the account and its rights."""
    meta = metadata(gateway.name, gateway.namespace, labels=gateway.labels)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": meta}
    ports = [
        {"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in gateway.ports.items()
    ]
    return (
        core("Service", meta, spec={"type": "LoadBalancer", "selector": gateway.selector, "ports": ports}),
        core("ServiceAccount", meta),
        role
        | {"kind": "Role", "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}]},
        role
        | {
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": gateway.name},
            "subjects": [{"kind": "ServiceAccount", "name": gateway.name, "namespace": gateway.namespace}],
        },
    )


def gateway_deployment(gateway: GatewaySpec) -> Json:
    """The gateway's Deployment, whose pods need working injection."""
    view = [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": gateway.network}] if gateway.network else []
    ready = {"httpGet": {"path": "/healthz/ready", "port": PORT_STATUS}, "periodSeconds": 1, "timeoutSeconds": 3}
    container = {
        "name": PROXY,
        "image": "auto",
        # The API server would default to Always, since `auto` has no tag, and that would override the template.
        "imagePullPolicy": "IfNotPresent",
        "env": view,
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
        # The template's readiness probe runs every 15 s; sidecars have this startup probe, gateways do not.
        "startupProbe": ready | {"failureThreshold": 600},
        "securityContext": {
            "capabilities": {"drop": ["ALL"]},
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
    }
    pod = {
        "serviceAccountName": gateway.name,
        # Lets the non-root proxy bind port 80 (a safe sysctl since Kubernetes 1.22).
        "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
        "containers": [container],
    }
    # Its namespace is not labelled for injection, so the pods name the revision.
    revision = {} if gateway.revision == DEFAULT_REVISION else {REVISION_LABEL: gateway.revision}
    wishes = {"sidecar.istio.io/inject": "true", "istio.io/dataplane-mode": "none", **revision}
    return deployment(
        gateway.name,
        gateway.namespace,
        selector=gateway.selector,
        labels=gateway.labels,
        pod=pod,
        pod_labels={**gateway.labels, **wishes},
        pod_annotations={"inject.istio.io/templates": "gateway"},
    )


def mesh_configuration(topology: Topology, primary: ClusterSpec) -> tuple[Json, ...]:
    """Objects to apply in a config cluster, the only cluster where istiod reads configuration."""
    controlled = topology.controlled_by(primary)
    return (
        *_cross_network_gateways(topology, primary),
        *(istiod_exposed([primary]) if topology.exposes_istiod(primary) else ()),
        *app_exposed(by_label(cluster.ingress for cluster in controlled if cluster.ingress)),
        _errors_logged(),
    )


def _errors_logged() -> Json:
    """Makes every proxy log failed requests with the reason, for `meshproof.report.proxy_logs`."""
    logging = {"providers": [{"name": "envoy"}], "filter": {"expression": "response.code >= 500"}}
    return istio("Telemetry", "errors-are-logged", SYSTEM_NAMESPACE, {"accessLogging": [logging]})


def cross_network_gateway_of(topology: Topology, cluster: ClusterSpec) -> str:
    """The name of the Gateway that opens 15443 at a cluster's east-west gateway. `KeyError` if there is none."""
    found = _cross_network_gateways(topology, topology.control_plane_of(cluster))
    wanted = {item["spec"]["selector"]["istio"]: str(item["metadata"]["name"]) for item in found}
    return wanted[cluster.east_west.label]


def _cross_network_gateways(topology: Topology, primary: ClusterSpec) -> tuple[Json, ...]:
    """samples/multicluster/expose-services.yaml: passes mesh TLS through to the service named by SNI."""
    server = {
        "port": {"number": PORT_SERVICES, "name": "tls", "protocol": "TLS"},
        "tls": {"mode": "AUTO_PASSTHROUGH"},
        "hosts": ["*.local"],
    }
    gateways = [c.east_west for c in topology.controlled_by(primary) if topology.exposes_services(c)]
    return opened(CROSS_NETWORK_GATEWAY, SYSTEM_NAMESPACE, by_label(gateways), [server])


def by_label(gateways: Iterable[GatewayRef]) -> list[dict[str, str]]:
    """The pod selectors of these gateways as we install them, without duplicates."""
    return [{"istio": label} for label in dict.fromkeys(gateway.label for gateway in gateways)]


def istiod_exposed(revisions: Sequence[ClusterSpec]) -> tuple[Json, ...]:
    """samples/multicluster/expose-istiod.yaml: xDS and injection for the remotes, for one or more revisions of a
    primary.

    With several, the SNI selects the revision by its Service name.
    """
    names = {PORT_XDS: "tls-istiod", PORT_WEBHOOK: "tls-istiodwebhook"}
    targets = {PORT_XDS: PORT_XDS, PORT_WEBHOOK: 443}
    servers = [
        {"port": {"number": port, "name": name, "protocol": "TLS"}, "tls": {"mode": "PASSTHROUGH"}, "hosts": ["*"]}
        for port, name in names.items()
    ]
    only = len(revisions) == 1
    routes = [
        {
            "match": [{"port": port, "sniHosts": ["*"] if only else [f"{primary.istiod}.{SYSTEM_NAMESPACE}.svc"]}],
            "route": [{"destination": {"host": _host_of(primary), "port": {"number": target}}}],
        }
        for primary in revisions
        for port, target in targets.items()
    ]
    return (
        *opened(ISTIOD_GATEWAY, SYSTEM_NAMESPACE, by_label(primary.east_west for primary in revisions), servers),
        istio(
            "VirtualService",
            "istiod-vs",
            SYSTEM_NAMESPACE,
            {"hosts": ["*"], "gateways": [ISTIOD_GATEWAY], "tls": routes},
        ),
    )


def _host_of(primary: ClusterSpec) -> str:
    return fqdn(primary.istiod, SYSTEM_NAMESPACE)


def app_exposed(selectors: Sequence[Mapping[str, str]]) -> tuple[Json, ...]:
    """The Gateways and VirtualService for mockshop.com on the ingress gateways with these selectors."""
    if not selectors:  # a VirtualService without gateways would apply to sidecars
        return ()
    destination = {"host": APP_FQDN, "port": {"number": APP_PORT}}
    opening = opened(f"{APP_SERVICE}-gateway", APP_NAMESPACE, selectors, [ingress_server([APP_HOST])])
    # The added headers report why a request failed, and the number of attempts.
    route = {"route": [{"destination": destination}], "headers": {"response": {"add": dict(DIAGNOSTIC_HEADERS)}}}
    return (
        *opening,
        istio(
            "VirtualService",
            APP_SERVICE,
            APP_NAMESPACE,
            {"hosts": [APP_HOST], "gateways": names_of(opening), "http": [route]},
        ),
    )
