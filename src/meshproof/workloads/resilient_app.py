"""A second Service for the application's pods, with the resilience settings that docs/failover.md recommends.

Istio's defaults: a connect timeout of 10 s, no outlier detection, two retries without a per-try timeout, and load
balancing by least requests. A DestinationRule and a VirtualService replace them here.
"""

from __future__ import annotations

from typing import Final

from meshproof.clients.istio.configuration import PROBE_DOMAIN, istio, names_of
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.load.generator import LoadTarget
from meshproof.mesh.gateways import opened_at_ingress
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.workloads.app import app_service

SERVICE: Final = f"{names.APP_SERVICE}-resilient"
FQDN: Final = names.fqdn(SERVICE, names.APP_NAMESPACE)
HOST: Final = f"{SERVICE}.{PROBE_DOMAIN}"


RESILIENT: Final = LoadTarget(name="resilient", host=HOST, url=f"http://{FQDN}:{names.APP_PORT}/")


RULE: Final[Json] = {
    "host": FQDN,
    "trafficPolicy": {
        # The default, LEAST_REQUEST, prefers an endpoint that fails fast, and chooses it again for the retry.
        "loadBalancer": {"simple": "ROUND_ROBIN"},
        "connectionPool": {"tcp": {"connectTimeout": "1s"}},
        "outlierDetection": {
            "consecutive5xxErrors": 3,
            "interval": "1s",
            "baseEjectionTime": "5s",
            "maxEjectionPercent": 50,
        },
    },
}


RETRIES: Final[Json] = {
    "attempts": 3,
    "perTryTimeout": "2s",
    "retryOn": "connect-failure,refused-stream,unavailable,cancelled,reset,gateway-error,retriable-status-codes",
}


def objects(mesh: Mesh) -> list[tuple[Cluster, Json]]:
    """The Service in every cluster (namespace sameness), and its Istio configuration in every primary."""
    route = {
        "route": [{"destination": {"host": FQDN, "port": {"number": names.APP_PORT}}}],
        "retries": RETRIES,
        "headers": {"response": {"add": dict(names.DIAGNOSTIC_HEADERS)}},
    }
    found = [(cluster, app_service(SERVICE)) for cluster in mesh.clusters]
    for primary in mesh.primaries:
        gateways = opened_at_ingress(mesh, primary, SERVICE, names.APP_NAMESPACE, [HOST])
        routes = {"hosts": [HOST, FQDN], "gateways": [*names_of(gateways), "mesh"], "http": [route]}
        rule = istio("DestinationRule", SERVICE, names.APP_NAMESPACE, RULE)
        own = (*gateways, rule, istio("VirtualService", SERVICE, names.APP_NAMESPACE, routes))
        found += [(primary, manifest) for manifest in own]
    return found
