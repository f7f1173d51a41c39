"""What a run that was killed has left of its probes: removed before the next run makes or reads anything."""

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
"""No run needs a probe of its own for so long: what is older was left by one that was killed."""


def remove_stale_probes(mesh: Mesh, *, older: timedelta = STALE) -> None:
    """Remove namespaces of probes and canaries that are older. Two lists a cluster; more only where something is left.

    With less than `STALE` only for who knows that no claim is being proven.
    """
    together(lambda cluster: _remove_stale_probes(cluster.kube, datetime.now(UTC) - older + STALE), mesh.clusters)


def _remove_stale_probes(kube: Kube, now: datetime) -> None:
    for name in stale(kube.list("Namespace"), (parts.PREFIX, fresh.PREFIX), now):
        kube.delete("Namespace", name)
    services = kube.list("Service", names.CLIENT_NAMESPACE, labels=canary.SELECTOR)
    for name in stale(services, (canary.PREFIX,), now):
        # Nobody else removes a slice that was made by hand. The Service goes last: by it the next remove_stale_probes finds both.
        kube.delete("EndpointSlice", name, names.CLIENT_NAMESPACE)
        kube.delete("Service", name, names.CLIENT_NAMESPACE)


def stale(found: Iterable[Json], prefixes: tuple[str, ...], now: datetime) -> list[str]:
    """The names of our objects that no run can need any more, and that are not about to go anyway."""
    ours = [item["metadata"] for item in found if item["metadata"]["name"].startswith(prefixes)]
    return [
        meta["name"]
        for meta in ours
        if "deletionTimestamp" not in meta and now - datetime.fromisoformat(meta["creationTimestamp"]) > STALE
    ]
