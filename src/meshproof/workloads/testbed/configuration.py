"""Istio configuration for the test bed: routes, policies and hosts that affect only its probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshproof.clients.istio.configuration import PROBE_DOMAIN, istio, names_of
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.mesh.gateways import opened_at_ingress
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.workloads.app import ECHO_PATH
from meshproof.workloads.testbed.names import (
    ALL,
    APP,
    CLUSTER_LABEL,
    FAILOVER,
    FIRST_WEIGHT,
    GUARDED,
    LISTEN_GRPC,
    LISTEN_HTTP,
    LISTEN_OPEN,
    LISTEN_TCP,
    PORT_HTTP,
    WEIGHTED,
    service_of,
)

EJECTED_AFTER: Final = 3
EJECTED_S: Final = 7
EJECTION_LAG_S: Final = 4.0
"""Envoy's workers report errors to its main thread, which ejects a moment later, or later still on a busy machine: with
a load average of 20 on two cores more than two seconds later."""
KNOWN_PATHS: Final = ("/known", ECHO_PATH)
CLIENT_ACCOUNT: Final = "default"


def configurations(mesh: Mesh, namespace: str) -> list[tuple[Cluster, Json]]:
    """All configuration of the test bed, for every config cluster."""
    hosts = [f"*.{namespace}.{PROBE_DOMAIN}"]
    opening = {primary: opened_at_ingress(mesh, primary, APP, namespace, hosts) for primary in mesh.primaries}
    return [
        (primary, item) for primary, gateways in opening.items() for item in configuration(mesh, namespace, gateways)
    ]


def configuration(mesh: Mesh, namespace: str, opening: Sequence[Json]) -> tuple[Json, ...]:
    """The configuration for one config cluster, with Gateways for the ingress gateways of the clusters it controls."""
    gateways = names_of(opening)
    return (
        *opening,
        *_weights(mesh, namespace, gateways),
        _spread(namespace),
        _failover(namespace),
        _mutual_tls(namespace),
        *_guards(mesh, namespace),
        *_ingress(mesh, namespace, gateways),
    )


def _weights(mesh: Mesh, namespace: str, gateways: Sequence[str]) -> tuple[Json, ...]:
    host = names.fqdn(WEIGHTED, namespace)
    subsets = [{"name": c.name, "labels": {CLUSTER_LABEL: c.name}} for c in mesh.clusters]
    routes = [
        {"destination": {"host": host, "subset": name, "port": {"number": PORT_HTTP}}, "weight": weight}
        for name, weight in weights(mesh).items()
    ]
    hosts = [host, f"{WEIGHTED}.{namespace}.{PROBE_DOMAIN}"]
    return (
        istio("DestinationRule", WEIGHTED, namespace, {"host": host, "subsets": subsets}),
        istio(
            "VirtualService",
            WEIGHTED,
            namespace,
            {"hosts": hosts, "gateways": ["mesh", *gateways], "http": [{"route": routes}]},
        ),
    )


def weights(mesh: Mesh) -> dict[str, int]:
    """80 for the first cluster, the rest in equal parts; Istio wants integers that sum to 100."""
    first, *others = (str(cluster) for cluster in mesh.clusters)
    share, rest = divmod(100 - FIRST_WEIGHT, len(others)) if others else (0, 0)
    return {first: FIRST_WEIGHT} | {name: share + (index < rest) for index, name in enumerate(others)}


def _spread(namespace: str) -> Json:
    """No locality first, whatever a mesh-wide DestinationRule with outlier detection would give this service."""
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN", "localityLbSetting": {"enabled": False}}}
    return istio("DestinationRule", ALL, namespace, {"host": names.fqdn(ALL, namespace), "trafficPolicy": policy})


def _failover(namespace: str) -> Json:
    """Own cluster first. Status 500 is not retried: Istio's default retry policy does not include it."""
    policy = {
        "outlierDetection": {
            "consecutive5xxErrors": EJECTED_AFTER,
            "interval": "0.5s",
            "baseEjectionTime": f"{EJECTED_S}s",
            "maxEjectionPercent": 100,
        },
        "loadBalancer": {
            "simple": "ROUND_ROBIN",
            "localityLbSetting": {"enabled": True, "failoverPriority": ["topology.istio.io/cluster"]},
        },
    }
    host = names.fqdn(FAILOVER, namespace)
    return istio("DestinationRule", FAILOVER, namespace, {"host": host, "trafficPolicy": policy})


def _mutual_tls(namespace: str) -> Json:
    spec = {
        "selector": {"matchLabels": {"app": APP}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {str(LISTEN_OPEN): {"mode": "PERMISSIVE"}},
    }
    return istio("PeerAuthentication", APP, namespace, spec)


def _guards(mesh: Mesh, namespace: str) -> tuple[Json, ...]:
    """Authorization of paths below `/guarded` by principal; every other path and port is open."""
    caller = f"{mesh.topology.trust_domain}/ns/{names.CLIENT_NAMESPACE}/sa/{CLIENT_ACCOUNT}"
    nobody = f"{mesh.topology.trust_domain}/ns/{namespace}/sa/nobody"
    selector = {"matchLabels": {"app": APP}}

    def rule(principal: str, *words: str) -> Json:
        return {
            "from": [{"source": {"principals": [principal]}}],
            "to": [{"operation": {"ports": [str(LISTEN_HTTP)], "paths": [f"{GUARDED}/{word}" for word in words]}}],
        }

    # Two rules: on a TCP port an ALLOW rule with paths in it is dropped as a whole.
    paths = {"to": [{"operation": {"ports": [str(LISTEN_HTTP)], "notPaths": [f"{GUARDED}/*"]}}]}
    ports = {"to": [{"operation": {"ports": [str(LISTEN_GRPC), str(LISTEN_TCP), str(LISTEN_OPEN)]}}]}
    allowed = [rule(caller, "allowed", "denied", "spared"), rule(nobody, "others"), paths, ports]
    denied = [rule(caller, "denied"), rule(nobody, "spared")]
    return (
        istio("AuthorizationPolicy", "allow", namespace, {"selector": selector, "action": "ALLOW", "rules": allowed}),
        istio("AuthorizationPolicy", "deny", namespace, {"selector": selector, "action": "DENY", "rules": denied}),
    )


def _ingress(mesh: Mesh, namespace: str, gateways: Sequence[str]) -> tuple[Json, ...]:
    """A host name for each cluster's probe at every ingress gateway, for the known paths only."""
    if not gateways:  # without gateways a route would apply to sidecars
        return ()
    routes = []
    for cluster in mesh.clusters:
        destination = {
            "host": names.fqdn(service_of(cluster), namespace),
            "port": {"number": PORT_HTTP},
        }
        spec = {
            "hosts": [f"{service_of(cluster)}.{namespace}.{PROBE_DOMAIN}"],
            "gateways": list(gateways),
            "http": [
                {
                    "match": [{"uri": {"exact": path}} for path in KNOWN_PATHS],
                    "route": [{"destination": destination}],
                }
            ],
        }
        routes.append(istio("VirtualService", service_of(cluster), namespace, spec))
    return tuple(routes)
