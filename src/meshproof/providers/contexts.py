"""Which clusters of a kubeconfig a run is for, from options and the environment, without reading the kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterName, PullSecret, Topology
from meshproof.core.path_options import readable_file

KUBECONFIG_VARIABLE: Final = "KUBECONFIG"
CONTEXT_VARIABLE: Final = "CTX_CLUSTER"
"""Followed by the cluster's position in the topology: CTX_CLUSTER1, as in Istio's documentation."""
DEFAULT_KUBECONFIG: Final = "~/.kube/config"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedContext:
    """A context of a kubeconfig, and its origin for error texts: `--context=cluster1=east`."""

    name: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Existing clusters, and what is needed to access them.

    `files` are kubeconfigs in kubectl's merge order, `source` is where they were named. A cluster
    that is not in `contexts` has the context of its own name. `istioctl` None: search for one. `images` are those that
    were given, by purpose. `istio_values` are merged into the spec of each IstioOperator, if a mesh is installed.
    `pull_secret` is that of probe pods, if given.
    """

    files: tuple[Path, ...]
    source: str
    contexts: Mapping[ClusterName, NamedContext]
    istioctl: Path | None
    images: Mapping[str, str]
    istio_values: Mapping[str, object] = field(default_factory=dict)
    pull_secret: PullSecret | None = None

    @property
    def kubeconfig(self) -> Path:
        """The argument for `Kube`: one file, or several joined as in KUBECONFIG."""
        return Path(os.pathsep.join(str(file) for file in self.files))


def kubeconfig_files(given: str | None, environment: Mapping[str, str]) -> tuple[tuple[Path, ...], str]:
    """The kubeconfigs, and where they were named: the option, else KUBECONFIG, else the default, as in kubectl.

    Raises `BadInput` if a file that the option names is missing, or all of those of KUBECONFIG.
    """
    if given is not None:
        files, source = _split(given), f"--kubeconfig={given}"
        there = files
    else:
        listed = environment.get(KUBECONFIG_VARIABLE)
        files, source = _split(listed or DEFAULT_KUBECONFIG), f"{KUBECONFIG_VARIABLE}={listed}" if listed else ""
        # kubectl ignores missing files of a list
        there = [file for file in files if os.path.lexists(file)] or files
    what, repair = source or f"kubeconfig {DEFAULT_KUBECONFIG}", f"name one with --kubeconfig, or {KUBECONFIG_VARIABLE}"
    if not there:
        raise BadInput(what, "none of its files exists", repair)
    for file in there:
        readable_file(what if len(there) == 1 else f"{what}: {file}", file, repair)
    return tuple(there), source or DEFAULT_KUBECONFIG


def _split(paths: str) -> list[Path]:
    return [Path(path).expanduser().absolute() for path in paths.split(os.pathsep) if path]


def named_contexts(
    topologies: Sequence[Topology],
    named: Sequence[str],
    by_place: Mapping[int, tuple[str, str | None]],
    environment: Mapping[str, str],
) -> dict[ClusterName, NamedContext]:
    """The given contexts, by cluster.

    `named` are `CLUSTER=CONTEXT`, or contexts alone, each for the next place; `by_place` has an option's flag and value
    for a position in the (first) topology, from 1. Without an option the topology file or CTX_CLUSTER<place> is used.
    Without a topology clusters have the given names, or `cluster<place>`. Raises `BadInput` for a cluster that the
    topologies do not have, for two contexts of one cluster, and for one context for two clusters.
    """
    known = list(dict.fromkeys(cluster.name for topology in topologies for cluster in topology.clusters))
    places = [cluster.name for cluster in topologies[0].clusters] if topologies else _PLACES
    found: dict[ClusterName, NamedContext] = {}
    alone = (place for place, _ in enumerate(named, start=1))
    for text in named:
        if is_alone(text):
            source = f"--context={text}"
            _add(found, _at(places, next(alone), source), NamedContext(name=text, source=source))
        else:
            _add(found, *_parsed(text, known))
    for place, (flag, context) in by_place.items():
        if context is not None:
            _add(found, _at(places, place, flag), NamedContext(name=context, source=f"{flag}={context}"))
    chosen = set(found)
    for cluster, written in _in_files(topologies):
        if cluster not in chosen:
            _add(found, cluster, written)
    for place, cluster in enumerate(places, start=1):
        variable = f"{CONTEXT_VARIABLE}{place}"
        value = environment.get(variable)
        if value and cluster not in chosen and not (cluster in found and found[cluster].name == value):
            _add(found, cluster, NamedContext(name=value, source=f"{variable}={value}"))
    _must_differ(found)
    return found


def is_alone(text: str) -> bool:
    """Whether a value of --context names no cluster."""
    return "=" not in text


_PLACES: Final = [ClusterName(f"cluster{place}") for place in range(1, 10)]


def _in_files(topologies: Sequence[Topology]) -> Iterator[tuple[ClusterName, NamedContext]]:
    for topology in topologies:
        for cluster in topology.clusters:
            if cluster.context is not None:
                source = f"context of {cluster.name} in {topology.source}"
                yield cluster.name, NamedContext(name=cluster.context, source=source)


def _parsed(text: str, known: Sequence[ClusterName]) -> tuple[ClusterName, NamedContext]:
    cluster, _, context = text.partition("=")
    source = f"--context={text}"
    if not cluster or not context:
        raise BadInput(source, "the cluster's name is missing", "use --context=CLUSTER=CONTEXT, or --context=CONTEXT")
    if known and cluster not in known:
        raise BadInput(source, f"the topology has no cluster {cluster}", f"use one of {', '.join(known)}")
    return ClusterName(cluster), NamedContext(name=context, source=source)


def _at(places: Sequence[ClusterName], place: int, flag: str) -> ClusterName:
    if place > len(places):
        raise BadInput(flag, f"the topology has {len(places)} clusters", f"omit {flag}")
    return places[place - 1]


def _add(found: dict[ClusterName, NamedContext], cluster: ClusterName, context: NamedContext) -> None:
    if not context.name:
        raise BadInput(context.source, "the context is empty", f"name the context of {cluster}")
    if cluster in found:
        raise BadInput(
            context.source, f"{found[cluster].source} already names the context of {cluster}", "use one of the two"
        )
    found[cluster] = context


def _must_differ(found: Mapping[ClusterName, NamedContext]) -> None:
    by_context: dict[str, ClusterName] = {}
    for cluster, context in found.items():
        if context.name in by_context:
            other = by_context[context.name]
            raise BadInput(
                context.source,
                f"{found[other].source} has the same context",
                f"name different contexts for {other} and {cluster}",
            )
        by_context[context.name] = cluster
