"""Compares a topology with the detected mesh. Missing or contradictory settings are left to the claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput
from meshproof.core.model import INGRESS, ClusterSpec, Role, Topology
from meshproof.core.progress import Narrator
from meshproof.detect.infer import FoundCluster, find_clusters, gateway_candidates, unknown_clusters
from meshproof.detect.overview import overview
from meshproof.detect.read import REVISION, TRUST_DOMAIN, read
from meshproof.discovery.naming import CLUSTER, MESH, NETWORK
from meshproof.mesh.handles import Cluster, Mesh


def must_agree(mesh: Mesh, narrator: Narrator, *, announce: bool = True) -> None:
    """Report the detected mesh. Raises `BadInput` with all differences if it does not match the topology."""
    with narrator.step("mesh detected on the clusters"):
        found = find_clusters(cluster.kube for cluster in mesh.clusters)
    for line in overview(found, mesh.topology.name) if announce else ():
        narrator.say(f"  {line}")
    refuse_differences(mesh.topology, found)


def refuse_differences(topology: Topology, found: Sequence[FoundCluster]) -> None:
    """Raise `BadInput` with all differences; `found` is in the order of the topology's clusters."""
    if wrong := topology_differences(topology, found):
        lines = "".join(f"\n  - {line}" for line in wrong)
        raise BadInput(
            f"--topology={topology.name}",
            f"it does not match the clusters:{lines}",
            "correct the topology or the contexts, or repair the mesh; `meshproof detect` prints the topology of the "
            "mesh on the clusters",
        )


def topology_differences(topology: Topology, found: Sequence[FoundCluster]) -> list[str]:
    """Differences between a topology and the clusters, one line each; `found` is in the order of its clusters."""
    by_context = {each.context: spec for spec, each in zip(topology.clusters, found, strict=True)}
    lines = [
        f"{spec.name} (context {each.context}): {text}"
        for spec, each in zip(topology.clusters, found, strict=True)
        for text in _of_cluster(topology, spec, each, by_context)
    ]
    return [*_missing(topology, found), *lines]


def _missing(topology: Topology, found: Sequence[FoundCluster]) -> Iterator[str]:
    """Clusters of the mesh that the topology does not have: some istiod reads them."""
    readers: dict[str, list[str]] = {}
    for spec, each in zip(topology.clusters, found, strict=True):
        for secret in unknown_clusters(each, {str(c.name) for c in topology.clusters}, found):
            readers.setdefault(secret.cluster, []).append(f"secret {secret} of {spec.name}")
    for cluster, where in readers.items():
        yield (
            f"{cluster} is missing in the topology, but belongs to the mesh: istiod reads it ({', '.join(where)}). Add "
            f"it to the topology file, with its context; or, if it has left the mesh, delete the secret"
        )


def _of_cluster(
    topology: Topology, spec: ClusterSpec, each: FoundCluster, by_context: dict[str, ClusterSpec]
) -> Iterator[str]:
    yield from _role(spec, each, by_context)
    wanted = {
        CLUSTER: spec.name,
        NETWORK: spec.network,
        MESH: topology.mesh_id,
        TRUST_DOMAIN: topology.trust_domain,
        REVISION: spec.revision,
    }
    for what, value in wanted.items():
        values = each.values(what)
        if values and value not in values:
            called = {CLUSTER: "its name in Istio", MESH: "mesh ID"}.get(what, what)
            yield f"{called}: the topology has {value}, the cluster has {each.places(what)}"
    for istiod in each.reading.istiods:
        if istiod.domain != names.CLUSTER_DOMAIN:
            names_in = f"the cluster domain is {istiod.domain} (Deployment {istiod.name}, --domain)"
            yield f"{names_in}; meshproof supports only {names.CLUSTER_DOMAIN}"
    yield from _gateways(topology, spec, each)
    version = each.reading.app_version
    if version and version != spec.app_version:
        yield f"app_version: the topology has {spec.app_version}, namespace {names.APP_NAMESPACE} has {version}"


def _gateways(topology: Topology, spec: ClusterSpec, each: FoundCluster) -> Iterator[str]:
    """Gateways of the topology that do not exist, if there are other candidates; an ingress gateway that is
    named but does not exist, or that exists though the topology has none."""
    needed = (spec.ingress, spec.east_west if topology.needs_east_west_gateway(spec) else None)
    for wanted, (what, usual, candidates) in zip(needed, gateway_candidates(each.reading), strict=True):
        there = " or ".join(map(str, candidates))
        if wanted and wanted not in each.reading.there and candidates:
            yield f"{what}: the topology has {wanted}, which does not exist; the cluster has {there}"
        elif wanted and wanted not in each.reading.there and usual == INGRESS != wanted:
            yield f"{what}: the topology has {wanted}, which does not exist, and the cluster has no other candidate"
        elif usual == INGRESS and wanted is None and candidates:
            yield f"{what}: the topology has none, the cluster has {there}"


def as_found(mesh: Mesh, narrator: Narrator) -> Mesh:
    """The mesh without the ingress gateways of clusters that have none, if the topology names no other
    than the default one: in a mesh that meshproof did not install, an ingress gateway is optional."""
    named = [cluster for cluster in mesh.clusters if cluster.spec.ingress == INGRESS]
    without = [c.name for c, has in zip(named, together(_has_ingress, named), strict=True) if not has]
    for name in without:
        narrator.say(f"{name} has no ingress gateway: checks through one are skipped there")
    specs = [replace(c.spec, ingress=None) if c.name in without else c.spec for c in mesh.clusters]
    return replace(
        mesh,
        topology=replace(mesh.topology, clusters=tuple(specs)),
        clusters=tuple(replace(c, spec=spec) for c, spec in zip(mesh.clusters, specs, strict=True)),
    )


def _has_ingress(cluster: Cluster) -> bool:
    """Whether the default ingress gateway's Service exists, or that of another candidate."""
    if cluster.kube.find("Service", INGRESS.name, INGRESS.namespace) is not None:
        return True
    return bool(read(cluster.kube).ingresses)


def _role(spec: ClusterSpec, each: FoundCluster, by_context: dict[str, ClusterSpec]) -> Iterator[str]:
    what = f"a remote of {spec.control_plane}" if spec.role is Role.REMOTE else "a primary"
    if each.role is None:
        where = "it has no istiod and no injection webhook" if each.reading.has_namespace else "it has no mesh"
        yield f"the topology has {what}, but {where}"
        return
    controllers = [str(by_context[context].name) for context in each.controlled_by]
    if each.role is not spec.role:
        yield f"the topology has {what}, but {_really(each, controllers)}"
    elif each.role is Role.REMOTE and controllers and spec.control_plane not in controllers:
        yield f"the topology has {what}, but its control plane is {' or '.join(controllers)}: {each.why}"


def _really(each: FoundCluster, controllers: Sequence[str]) -> str:
    if each.role is Role.PRIMARY:
        return f"it is a primary (Deployment {', '.join(istiod.name for istiod in each.reading.istiods)})"
    if not each.reading.dials and not each.reading.controllers:
        return "it has no istiod"  # its webhooks may be leftovers of a primary
    whose = " or ".join(controllers) or "an istiod that is not in the topology"
    return f"it has no istiod: it is a remote of {whose}"
