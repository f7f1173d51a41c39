"""What the parts of the test bed are called, and where they listen."""

from __future__ import annotations

from typing import Final

from meshproof.mesh.handles import Cluster

PREFIX: Final = "meshproof-stage-"
APP: Final = "probe"
FAIL_HEADER: Final = "x-meshproof-fail"
CLUSTER_LABEL: Final = "meshproof-cluster"

PORT_HTTP: Final = 80
PORT_GRPC: Final = 81
PORT_TCP: Final = 90
LISTEN_HTTP: Final = 8080
LISTEN_GRPC: Final = 8082
"""Of its own: where two services lead to one port of a pod, its sidecar takes the protocol of one of them for both."""
LISTEN_TCP: Final = 8090
LISTEN_OPEN: Final = 8081
"""A port of the pod that takes plain text, as the positive control of those that must not."""

ALL: Final = "probe-all"
WEIGHTED: Final = "probe-weighted"
FAILOVER: Final = "probe-failover"
SHARED: Final = (ALL, WEIGHTED, FAILOVER)
"""Services over the probes of all clusters; beside them each cluster's probe has a service of its own."""

GUARDED: Final = "/guarded"
FIRST_WEIGHT: Final = 80


def service_of(cluster: Cluster) -> str:
    """The service that has one endpoint, the probe of that cluster."""
    return f"{APP}-{cluster.name}"
