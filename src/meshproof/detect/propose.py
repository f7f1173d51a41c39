"""A topology from what is on clusters: one of ours by its name, else the text of a file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshproof.clients.kubernetes.rbac import FOR_DETECTION
from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterName, ClusterSpec, NetworkName, Role, Topology
from meshproof.core.names import DEFAULT_REVISION
from meshproof.core.topology import as_yaml, available, load_topology, parse_topology
from meshproof.detect.infer import FoundCluster, describe_clusters, find_clusters, gateway_candidates
from meshproof.detect.read import REVISION, TRUST_DOMAIN
from meshproof.discovery.naming import MESH, NETWORK
from meshproof.providers.contexts import Attachment
from meshproof.providers.kubeconfig import greeted

FILE: Final = "mesh.yaml"
"""How a proposed file is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What was found, in lines; the text of a topology file of it; and the name of one of ours that is the same."""

    lines: tuple[str, ...]
    text: str
    ours: str
    contexts: tuple[tuple[str, str], ...]

    @property
    def command(self) -> str:
        """How to prove it with one of ours; contexts are by name, since its clusters may be in another order."""
        named = [f"--context={cluster}={context}" for cluster, context in self.contexts]
        return shlex.join(["pytest", f"--topology={self.ours}", *named])

    def as_error(self) -> BadInput:
        """For a run that was told no topology."""
        listed = "".join(f"\n  {line}" for line in self.lines)
        if self.ours:
            return BadInput(
                "--topology is missing",
                f"this is there, and {self.ours} says the same:{listed}",
                f"if that is what the mesh should be: {self.command}",
            )
        return BadInput(
            "--topology is missing",
            f"this is there:{listed}",
            f"if that is what the mesh should be, save this as {FILE}, and run `pytest --topology={FILE}`:\n\n"
            f"{self.text}",
        )


def proposal_for(attachment: Attachment) -> Proposal:
    """Look at the clusters of these contexts. Raises `BadInput` if they are no mesh, with what is there instead."""
    if not attachment.contexts:
        raise BadInput(
            "the clusters to look at",
            "no option names their contexts",
            "name them with --cluster1-context and --cluster2-context, or with --context=CLUSTER=CONTEXT",
        )
    kubes = greeted(attachment, tuple(attachment.contexts), FOR_DETECTION)
    return propose(find_clusters(kubes))


def propose(found: Sequence[FoundCluster]) -> Proposal:
    """Raises `BadInput` with everything that keeps this from being a topology."""
    lines = tuple(describe_clusters(found))
    if problems := [problem for each in found for problem in _problems(each, found)]:
        listed = "".join(f"\n  {line}" for line in lines)
        raise BadInput(
            "the clusters of these contexts",
            f"no topology follows from what is there:{listed}\n  since {'; '.join(problems)}",
            "name the topology that is meant (pytest --topology=…): then all that differs from it is told",
        )
    text = as_yaml(_topology(found))
    try:
        topology = parse_topology(text, Path(FILE))
    except BadInput as problem:
        raise BadInput("a topology of what is there", f"{problem.reason} ({problem.what})", problem.repair) from None
    return Proposal(
        lines=lines,
        text=text,
        ours=_one_of_ours(topology, with_app=any(each.reading.app_version for each in found)),
        contexts=tuple((str(cluster.name), cluster.context or "") for cluster in topology.clusters),
    )


def _problems(each: FoundCluster, found: Sequence[FoundCluster]) -> list[str]:
    who = f"context {each.context}"
    if each.role is None:
        return [f"{who} has no part of a mesh"]
    problems = []
    if each.role is Role.REMOTE and len(each.controlled_by) != 1:
        problems.append(f"nothing tells whose remote {who} is")
    if each.role is Role.PRIMARY and len(each.values(REVISION)) > 1:
        problems.append(f"{who} has several revisions: {', '.join(each.values(REVISION))}")
    if each.role is Role.PRIMARY and not each.values(MESH):
        problems.append(f"{who} has no mesh ID (values.global.meshID)")
    if others := {id_ for other in found for id_ in other.values(MESH)} - {*each.values(MESH)}:
        problems += [f"{who} has another mesh ID than {', '.join(sorted(others))}"] if each.values(MESH) else []
    if not each.values(NETWORK) and any(other.values(NETWORK) for other in found):
        problems.append(f"{who} has no network, and others have one")
    if [other.name for other in found].count(each.name) > 1:
        problems.append(f"{who} has the name {each.name} in Istio, and another one has it as well")
    return problems


def _topology(found: Sequence[FoundCluster]) -> Topology:
    """What was found as a topology, with names that nobody has checked."""
    first = next(each for each in found if each.role is Role.PRIMARY)
    names = {each.context: each.name for each in found}
    versions = [each.reading.app_version for each in found]
    if "" in versions or len(set(versions)) < len(versions):
        versions = [f"v{number}" for number, _ in enumerate(found, start=1)]
    return Topology(
        name=Path(FILE).stem,
        title=f"The mesh of {', '.join(names.values())}",
        mesh_id=first.first(MESH),
        trust_domain=first.first(TRUST_DOMAIN),
        clusters=tuple(_cluster(each, version, names) for each, version in zip(found, versions, strict=True)),
        source=Path(FILE),
    )


def _cluster(each: FoundCluster, version: str, names: Mapping[str, str]) -> ClusterSpec:
    ingress, east_west = (
        candidates[0] if len(candidates) == 1 else usual for _, usual, candidates in gateway_candidates(each.reading)
    )
    has_ingress = bool(next(candidates for _, _, candidates in gateway_candidates(each.reading)))
    remote = each.role is Role.REMOTE
    return ClusterSpec(
        name=ClusterName(each.name),
        role=Role.REMOTE if remote else Role.PRIMARY,
        # Without any name all are on one network (istio.io, Deployment models).
        network=NetworkName(each.first(NETWORK) or "network1"),
        control_plane=ClusterName(names[each.controlled_by[0]] if remote else each.name),
        app_version=version,
        revision=DEFAULT_REVISION if remote else each.first(REVISION),
        context=each.context,
        ingress=ingress if has_ingress else None,
        east_west=east_west,
    )


def _one_of_ours(topology: Topology, *, with_app: bool) -> str:
    """The name of a topology of ours that says the same, in whatever order; empty if there is none."""
    for name in available():
        if _essence(load_topology(name), with_app=with_app) == _essence(topology, with_app=with_app):
            return name
    return ""


def _essence(topology: Topology, *, with_app: bool) -> tuple[object, ...]:
    clusters = {
        (c.name, c.role, c.network, c.control_plane, c.revision, c.ingress, c.east_west, c.app_version * with_app)
        for c in topology.clusters
    }
    return topology.mesh_id, topology.trust_domain, frozenset(clusters)
