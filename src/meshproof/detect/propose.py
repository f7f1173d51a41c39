"""Proposes a topology for detected clusters: a built-in one by its name, or the text of a file."""

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
from meshproof.providers.kubeconfig import contexts_in, greeted

FILE: Final = "mesh.yaml"
"""Name of a proposed file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What was found, in lines; its topology as the text of a file; and the name of an equal built-in topology.

    `contexts` are those of the clusters of `found`, by name.
    """

    lines: tuple[str, ...]
    text: str
    ours: str
    contexts: tuple[tuple[str, str], ...]
    found: tuple[FoundCluster, ...] = ()

    @property
    def command(self) -> str:
        """The command to verify it with a built-in topology; contexts are by name, since its clusters may be in another
        order."""
        named = [f"--context={cluster}={context}" for cluster, context in self.contexts]
        return shlex.join(["pytest", f"--topology={self.ours}", *named])

    def as_error(self) -> BadInput:
        """The error for a run without a topology."""
        listed = "".join(f"\n  {line}" for line in self.lines)
        if self.ours:
            return BadInput(
                "--topology is missing",
                f"the clusters have this mesh, which is {self.ours}:{listed}",
                f"if this is the intended mesh: {self.command}",
            )
        return BadInput(
            "--topology is missing",
            f"the clusters have this mesh:{listed}",
            f"if this is the intended mesh, save this as {FILE}, and run `pytest --topology={FILE}`:\n\n{self.text}",
        )


def proposal_for(attachment: Attachment) -> Proposal:
    """Read the clusters of these contexts. Raises `BadInput` with what was found if they are not a mesh."""
    if not attachment.contexts:
        there = ", ".join(contexts_in(attachment.files)) or "none"
        raise BadInput(
            "the clusters",
            "no option names their contexts",
            f"name each with --context=CONTEXT; contexts in {attachment.source}: {there}",
        )
    kubes = greeted(attachment, tuple(attachment.contexts), FOR_DETECTION)
    return propose(find_clusters(kubes))


def propose(found: Sequence[FoundCluster]) -> Proposal:
    """Raises `BadInput` with all reasons why this is not a topology."""
    lines = tuple(describe_clusters(found))
    if problems := [problem for each in found for problem in _problems(each, found)]:
        listed = "".join(f"\n  {line}" for line in lines)
        raise BadInput(
            "the clusters of these contexts",
            f"their topology cannot be determined:{listed}\n  since {'; '.join(problems)}",
            "name the intended topology (pytest --topology=…), then all differences from it are listed",
        )
    text = as_yaml(_topology(found))
    try:
        topology = parse_topology(text, Path(FILE))
    except BadInput as problem:
        raise BadInput("the detected topology", f"{problem.reason} ({problem.what})", problem.repair) from None
    return Proposal(
        lines=lines,
        text=text,
        ours=_one_of_ours(topology, with_app=any(each.reading.app_version for each in found)),
        contexts=tuple((str(cluster.name), cluster.context or "") for cluster in topology.clusters),
        found=tuple(found),
    )


def _problems(each: FoundCluster, found: Sequence[FoundCluster]) -> list[str]:
    who = f"context {each.context}"
    if each.role is None:
        return [f"{who} has no part of a mesh"]
    problems = []
    if each.role is Role.REMOTE and len(each.controlled_by) != 1:
        problems.append(f"the primary of {who} is unknown")
    if each.role is Role.PRIMARY and len(each.values(REVISION)) > 1:
        problems.append(f"{who} has several revisions: {', '.join(each.values(REVISION))}")
    if each.role is Role.PRIMARY and not each.values(MESH):
        problems.append(f"{who} has no mesh ID (values.global.meshID)")
    if others := {id_ for other in found for id_ in other.values(MESH)} - {*each.values(MESH)}:
        problems += [f"{who} has another mesh ID than {', '.join(sorted(others))}"] if each.values(MESH) else []
    if not each.values(NETWORK) and any(other.values(NETWORK) for other in found):
        problems.append(f"{who} has no network, but others have one")
    if [other.name for other in found].count(each.name) > 1:
        problems.append(f"{who} has the name {each.name} in Istio, like another cluster")
    return problems


def _topology(found: Sequence[FoundCluster]) -> Topology:
    """The detected topology, with unvalidated names."""
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
        # Without names all are on one network (istio.io, Deployment models).
        network=NetworkName(each.first(NETWORK) or "network1"),
        control_plane=ClusterName(names[each.controlled_by[0]] if remote else each.name),
        app_version=version,
        revision=DEFAULT_REVISION if remote else each.first(REVISION),
        context=each.context,
        ingress=ingress if has_ingress else None,
        east_west=east_west,
    )


def _one_of_ours(topology: Topology, *, with_app: bool) -> str:
    """The name of an equal built-in topology, with clusters in any order; empty if there is none."""
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
