"""Whether a service is the same in every cluster."""

from __future__ import annotations

from collections.abc import Mapping

from meshproof.core import names
from meshproof.core.model import ClusterName
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import ServiceFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.dns import resolve_from_pod


def resolve_app(snapshot: Snapshot, cluster: Cluster) -> tuple[str, ...]:
    """The addresses that the application's name has in the client's pod."""
    return resolve_from_pod(cluster.kube, snapshot.of(cluster).client, names.APP_FQDN)


def sameness_problems(services: Mapping[ClusterName, ServiceFacts | None], cluster: ClusterName) -> list[str]:
    """How the Service in one cluster differs from the first that is there."""
    mine = services[cluster]
    if mine is None:
        return [f"no Service {names.APP_NAMESPACE}/{names.APP_SERVICE}"]
    first, model = next((name, service) for name, service in services.items() if service is not None)
    problems = [] if mine.kind == model.kind else [f"its type is {mine.kind}, in {first} it is {model.kind}"]
    if set(mine.ports) != set(model.ports):
        problems.append(f"its ports are {_ports(mine)}, in {first} they are {_ports(model)}")
    return problems


def _ports(service: ServiceFacts) -> str:
    return ", ".join(f"{port.number} ({port.name or 'no name'})" for port in service.ports) or "none"
