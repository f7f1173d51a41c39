"""Orphan cleanup: removes probes of killed runs before the next run creates or reads anything."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.mesh.handles import Mesh
from meshproof.workloads import canary_service as canary
from meshproof.workloads import ephemeral as fresh
from meshproof.workloads.testbed import names as parts

STALE: Final = timedelta(minutes=15)
"""No run needs its own probes for this long: older ones are orphans of killed runs."""


def remove_stale_probes(mesh: Mesh, *, older: timedelta = STALE) -> None:
    """Remove older probe namespaces and canaries. Costs two list requests per cluster, more only where orphans exist.

    Pass less than `STALE` only if no claim is running.
    """
    together(lambda cluster: _remove_stale_probes(cluster.kube, datetime.now(UTC) - older + STALE), mesh.clusters)


def _remove_stale_probes(kube: Kube, now: datetime) -> None:
    for name in stale(kube.list("Namespace"), (parts.PREFIX, fresh.PREFIX), now):
        kube.delete("Namespace", name)
    services = kube.list("Service", names.CLIENT_NAMESPACE, labels=canary.SELECTOR)
    for name in stale(services, (canary.PREFIX,), now):
        # Kubernetes does not remove manual EndpointSlices. The Service goes last: the next cleanup finds both by it.
        kube.delete("EndpointSlice", name, names.CLIENT_NAMESPACE)
        kube.delete("Service", name, names.CLIENT_NAMESPACE)


def stale(found: Iterable[Json], prefixes: tuple[str, ...], now: datetime) -> list[str]:
    """The names of our objects that no run can need any more, without those being deleted already."""
    ours = [item["metadata"] for item in found if item["metadata"]["name"].startswith(prefixes)]
    return [
        meta["name"]
        for meta in ours
        if "deletionTimestamp" not in meta and now - datetime.fromisoformat(meta["creationTimestamp"]) > STALE
    ]
