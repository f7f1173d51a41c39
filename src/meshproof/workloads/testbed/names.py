"""Names and ports of the parts of the test bed."""

from __future__ import annotations

from typing import Final

from meshproof.mesh.handles import Cluster

PREFIX: Final = "meshproof-testbed-"
APP: Final = "probe"
FAIL_HEADER: Final = "x-meshproof-fail"
CLUSTER_LABEL: Final = "meshproof-cluster"

PORT_HTTP: Final = 80
PORT_GRPC: Final = 81
PORT_TCP: Final = 90
LISTEN_HTTP: Final = 8080
LISTEN_GRPC: Final = 8082
"""A separate port: if two services share a pod port, its sidecar uses the protocol of one of them for both."""
LISTEN_TCP: Final = 8090
LISTEN_OPEN: Final = 8081
"""A pod port that accepts plain text: the positive control for the ports that must not."""

ALL: Final = "probe-all"
WEIGHTED: Final = "probe-weighted"
FAILOVER: Final = "probe-failover"
SHARED: Final = (ALL, WEIGHTED, FAILOVER)
"""Services with the probes of all clusters; in addition each cluster's probe has its own service."""

GUARDED: Final = "/guarded"
FIRST_WEIGHT: Final = 80


def service_of(cluster: Cluster) -> str:
    """The service with one endpoint, the probe of that cluster."""
    return f"{APP}-{cluster.name}"


def path_service_of(cluster: Cluster) -> str:
    """A second one of that kind, for the requests that are counted on their path: no other claim uses it."""
    return f"path-{cluster.name}"
