"""Which mesh an `upgrade` command is about: that of a lab that is up, or one on contexts of a kubeconfig."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from meshproof.cli.arguments import TOPOLOGY_HELP, add_options
from meshproof.clients.kubernetes.client import Kube
from meshproof.clients.kubernetes.rbac import AccessRule
from meshproof.core.errors import BadInput
from meshproof.core.model import Topology
from meshproof.core.topology import called, load_topology, parse_topology
from meshproof.detect.propose import FILE, proposal_for
from meshproof.install.marker import running_topology
from meshproof.mesh.handles import Mesh
from meshproof.providers.contexts import Attachment
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
    f"{TOPOLOGY_HELP} (default: what the mesh itself says: a lab by its marker, clusters of a kubeconfig as "
    "`meshproof detect` finds them)"
)
CHOOSERS: Final = (replace(TOPOLOGY, metavar="NAME|FILE", help=_TOPOLOGY_HELP), LAB_NAME, *CHOOSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The mesh, and the options by which pytest finds it again.

    `text` is that of its topology if no file has it yet: then pytest needs it written down first.
    """

    mesh: Mesh
    options: tuple[str, ...]
    text: str = ""


def add_choosers(parser: argparse.ArgumentParser) -> None:
    """The options that say which mesh is meant."""
    add_options(parser, CHOOSERS)


def chosen_mesh(arguments: argparse.Namespace, rules: Sequence[AccessRule]) -> Chosen:
    """Handles on the clusters, which must grant `rules` where they are not ours. Raises `BadInput` if there is none."""
    values: dict[str, object] = {option.dest: getattr(arguments, option.dest) for option in CHOOSERS}
    if values[TOPOLOGY.dest] == ALL:
        raise BadInput(f"--topology={ALL}", "there is one mesh at a time", "name one topology, or none")
    settings = read_settings(values, root=Path(), environment=os.environ)
    if settings.attachment is None:
        return _of_lab(settings.lab_name, settings.topologies)
    if settings.topologies:
        topology, attachment, text = settings.topologies[0], settings.attachment, ""
    else:
        topology, attachment, text = _detected(settings.attachment, values)
    kubes = greeted(attachment, [cluster.name for cluster in topology.clusters], rules)
    toolbox = reading_toolbox(attachment, kubes, {cluster.revision for cluster in topology.clusters})
    mesh = Mesh.of(topology, tuple(access_of(kube) for kube in kubes), toolbox)
    return Chosen(mesh=mesh, options=_again(attachment, topology, kubes, named=not text), text=text)


def _of_lab(name: str, topologies: tuple[Topology, ...]) -> Chosen:
    lab = labs.running(name)
    if lab is None:
        raise BadInput(
            f"lab {name}",
            "is not up, and no option names contexts of a kubeconfig",
            "start it with `meshproof lab up --topology=NAME`, or name clusters with --cluster1-context and so on",
        )
    there = running_topology(access.client() for access in lab.clusters)
    topology = topologies[0] if topologies else there
    if topology.name != there.name:
        raise BadInput(f"--topology={topology.name}", f"the running mesh is {there.name}", "leave it away")
    options = (f"{TOPOLOGY.flag}={called(topology)}", f"{LAB_NAME.flag}={name}")
    return Chosen(mesh=Mesh.of(topology, lab.clusters, lab.toolbox), options=options)


def _detected(attachment: Attachment, values: Mapping[str, object]) -> tuple[Topology, Attachment, str]:
    """What mesh these clusters are, by the names that they have in it."""
    proposal = proposal_for(attachment)
    text = "" if proposal.ours else proposal.text
    topology = load_topology(proposal.ours) if proposal.ours else parse_topology(proposal.text, Path(FILE))
    contexts = [f"{cluster}={context}" for cluster, context in proposal.contexts]
    # Clusters have other names now than those that were given; variables of the environment have had their say.
    detected = {PROVIDER.dest: ON_KUBECONFIG, KUBECONFIG.dest: str(attachment.kubeconfig), CONTEXT.dest: contexts}
    again = read_settings({**values, **dict.fromkeys(_BY_PLACE), **detected}, root=Path())
    assert again.attachment is not None
    return topology, replace(again.attachment, source=attachment.source), text


def _again(attachment: Attachment, topology: Topology, kubes: Sequence[Kube], *, named: bool) -> tuple[str, ...]:
    contexts = [f"{CONTEXT.flag}={kube.name}={kube.context}" for kube in kubes]
    topologies = [f"{TOPOLOGY.flag}={called(topology)}"] if named else []
    files = f"--kubeconfig={attachment.kubeconfig}"
    return (*topologies, f"{PROVIDER.flag}={ON_KUBECONFIG}", files, *contexts)
