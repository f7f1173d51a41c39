"""Selects the mesh of an `upgrade` command: that of a running lab, or one on contexts of a kubeconfig."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from meshproof.cli.arguments import TOPOLOGY_HELP, add_options
from meshproof.clients.kubernetes.client import Kube
from meshproof.clients.kubernetes.rbac import FOR_DETECTION, AccessRule
from meshproof.core.errors import BadInput
from meshproof.core.model import Topology
from meshproof.core.topology import called, load_topology, parse_topology
from meshproof.detect.infer import FoundCluster, find_clusters
from meshproof.detect.propose import FILE, proposal_for
from meshproof.install.marker import running_topology
from meshproof.mesh.handles import Mesh
from meshproof.providers.contexts import Attachment, is_alone
from meshproof.providers.kubeconfig import access_of, greeted, reading_toolbox
from meshproof.providers.lab import api as labs
from meshproof.run.settings import (
    ALL,
    CHOOSING,
    CLUSTER1_CONTEXT,
    CLUSTER2_CONTEXT,
    CONTEXT,
    KUBECONFIG,
    LAB_NAME,
    ON_KUBECONFIG,
    PROVIDER,
    TOPOLOGY,
    read_settings,
)

_BY_PLACE: Final = (CLUSTER1_CONTEXT.dest, CLUSTER2_CONTEXT.dest)
_TOPOLOGY_HELP: Final = (
    f"{TOPOLOGY_HELP} (default: that of the mesh: a lab's by its marker, that of clusters of a kubeconfig as "
    "`meshproof detect` finds it)"
)
_COMPARED: Final = f"{TOPOLOGY_HELP}, to compare the mesh with (default: whatever mesh is detected)"
CHOOSERS: Final = (replace(TOPOLOGY, metavar="NAME|FILE", help=_TOPOLOGY_HELP), LAB_NAME, *CHOOSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The mesh, and the pytest options that select it.

    `text` is its topology as YAML if it has no file yet: then it must be written for pytest first. `found` is what was
    detected on its clusters, as far as that was needed.
    """

    mesh: Mesh
    options: tuple[str, ...]
    text: str = ""
    found: tuple[FoundCluster, ...] = ()


OF_EXISTING: Final = (replace(TOPOLOGY, metavar="NAME|FILE", help=_COMPARED), *CHOOSING)
"""For a command that works on clusters of a kubeconfig only."""


def add_choosers(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the mesh."""
    add_options(parser, CHOOSERS)


def chosen_mesh(arguments: argparse.Namespace, rules: Sequence[AccessRule], *, on_kubeconfig: bool = False) -> Chosen:
    """Handles on the clusters, which must grant `rules` if they are not ours. Raises `BadInput` if there is no mesh.

    With `on_kubeconfig` it is never a lab's.
    """
    values: dict[str, object] = {option.dest: getattr(arguments, option.dest, None) for option in CHOOSERS}
    if on_kubeconfig:
        values[PROVIDER.dest] = ON_KUBECONFIG
    values = _with_clusters_named(values)
    if values[TOPOLOGY.dest] == ALL:
        raise BadInput(f"--topology={ALL}", "this command works on one mesh", "name one topology, or omit the option")
    settings = read_settings(values, root=Path(), environment=os.environ)
    if settings.attachment is None:
        return _of_lab(settings.lab_name, settings.topologies)
    found: tuple[FoundCluster, ...] = ()
    if settings.topologies:
        topology, attachment, text = settings.topologies[0], settings.attachment, ""
    else:
        topology, attachment, text, found = _detected(settings.attachment, values)
    kubes = greeted(attachment, [cluster.name for cluster in topology.clusters], rules)
    toolbox = reading_toolbox(attachment, kubes, {cluster.revision for cluster in topology.clusters})
    mesh = Mesh.of(topology, tuple(access_of(kube) for kube in kubes), toolbox)
    return Chosen(mesh=mesh, options=_again(attachment, topology, kubes, named=not text), text=text, found=found)


def _with_clusters_named(values: dict[str, object]) -> dict[str, object]:
    """Contexts that name no cluster are those of the topology's clusters with their names in Istio, in any order.

    If these are other names they stay as they are: what differs from the topology is reported later.
    """
    named = values[CONTEXT.dest]
    if values[TOPOLOGY.dest] in (None, ALL) or not isinstance(named, list) or not all(map(is_alone, named)):
        return values
    settings = read_settings(values, root=Path(), environment=os.environ)
    attachment = settings.attachment
    if not named or attachment is None or len(attachment.contexts) != len(settings.topologies[0].clusters):
        return values
    found = find_clusters(greeted(attachment, tuple(attachment.contexts), FOR_DETECTION))
    names = {each.name: each.context for each in found}
    if names.keys() != {str(cluster.name) for cluster in settings.topologies[0].clusters}:
        return values
    contexts = [f"{name}={context}" for name, context in names.items()]
    return {**values, **dict.fromkeys(_BY_PLACE), CONTEXT.dest: contexts}


def _of_lab(name: str, topologies: tuple[Topology, ...]) -> Chosen:
    lab = labs.running(name)
    if lab is None:
        raise BadInput(
            f"lab {name}",
            "is not up, and no contexts of a kubeconfig were given",
            "start it with `meshproof lab up --topology=NAME`, or "
            "select clusters with --cluster1-context and --cluster2-context",
        )
    there = running_topology(access.client() for access in lab.clusters)
    topology = topologies[0] if topologies else there
    if topology.name != there.name:
        raise BadInput(f"--topology={topology.name}", f"the running mesh is {there.name}", "omit --topology")
    options = (f"{TOPOLOGY.flag}={called(topology)}", f"{LAB_NAME.flag}={name}")
    return Chosen(mesh=Mesh.of(topology, lab.clusters, lab.toolbox), options=options)


def _detected(
    attachment: Attachment, values: Mapping[str, object]
) -> tuple[Topology, Attachment, str, tuple[FoundCluster, ...]]:
    """The topology of these clusters, with their names in the mesh."""
    proposal = proposal_for(attachment)
    text = "" if proposal.ours else proposal.text
    topology = load_topology(proposal.ours) if proposal.ours else parse_topology(proposal.text, Path(FILE))
    contexts = [f"{cluster}={context}" for cluster, context in proposal.contexts]
    # Clusters may now have other names than the given ones; environment variables are already evaluated.
    detected = {PROVIDER.dest: ON_KUBECONFIG, KUBECONFIG.dest: str(attachment.kubeconfig), CONTEXT.dest: contexts}
    again = read_settings({**values, **dict.fromkeys(_BY_PLACE), **detected}, root=Path())
    assert again.attachment is not None
    by_context = {each.context: each for each in proposal.found}
    ordered = (again.attachment.contexts[cluster.name].name for cluster in topology.clusters)
    found = tuple(by_context[context] for context in ordered if context in by_context)
    return topology, replace(again.attachment, source=attachment.source), text, found


def _again(attachment: Attachment, topology: Topology, kubes: Sequence[Kube], *, named: bool) -> tuple[str, ...]:
    contexts = [f"{CONTEXT.flag}={kube.name}={kube.context}" for kube in kubes]
    topologies = [f"{TOPOLOGY.flag}={called(topology)}"] if named else []
    files = f"--kubeconfig={attachment.kubeconfig}"
    return (*topologies, f"{PROVIDER.flag}={ON_KUBECONFIG}", files, *contexts)
