"""Takes the record of a mesh: reads API servers, proxies and istiods, sends a few requests, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import NotReady
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.upgrade.baseline.capture_cluster import cluster_parts
from meshproof.upgrade.baseline.capture_proxy import proxy_parts
from meshproof.upgrade.baseline.model import BaselineRecord, Content, Key
from meshproof.upgrade.baseline.samples import samples_of
from meshproof.upgrade.baseline.workload_identity import Raw, directory_of, workload_pods


def take_record(mesh: Mesh, *, traffic: bool = True) -> BaselineRecord:
    """Record one proxy of each workload in every cluster. Without `traffic` no request is sent to the application.

    If a pod disappears before it is read, everything is read once more.
    """
    try:
        return _take(mesh, traffic=traffic)
    except NotReady:
        return _take(mesh, traffic=traffic)


def _take(mesh: Mesh, *, traffic: bool) -> BaselineRecord:
    taken = datetime.now(UTC)
    raws = together(_read, mesh.clusters)
    samples = samples_of(mesh, raws) if traffic else {}  # before the rest, which would take CPU time from it
    work: list[Callable[[], dict[Key, Content]]] = []
    for raw in raws:
        directory, pods = directory_of(raw.cluster, mesh, raws), workload_pods(raw)
        istiods = [each for each in pods if _is_istiod(each.pod.namespace, each.pod.labels.get("app", ""))]
        work.append(partial(cluster_parts, raw, istiods, directory))
        work += [partial(proxy_parts, each, directory) for each in pods if each.pod.has_proxy]
    found = together(lambda one: one(), work)
    parts = {key: content for part in found for key, content in part.items()}
    return BaselineRecord(mesh=mesh.topology.name, taken=taken, parts=dict(sorted(parts.items())), samples=samples)


def _is_istiod(namespace: str, app: str) -> bool:
    return namespace == names.SYSTEM_NAMESPACE and app == "istiod"


def _read(cluster: Cluster) -> Raw:
    kube = cluster.kube
    return Raw(cluster=cluster, pods=tuple(kube.list("Pod")), services=tuple(kube.list("Service")))
