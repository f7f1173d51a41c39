"""Versions of Istio's components, and which of them are compatible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.kubernetes.client import Json
from meshproof.core.concurrency import together
from meshproof.core.versions import Version
from meshproof.mesh.snapshot import Snapshot

RELEASE_LABELS: Final = ("operator.istio.io/version",)
"""Written by istioctl: the release of Istio."""
CHART_LABELS: Final = ("app.kubernetes.io/version", "helm.sh/chart")
"""Written by Helm: the version of a chart and of what it says it installs, which are those of whoever packaged it."""
ALL_LABELS: Final = (*RELEASE_LABELS, *CHART_LABELS)

BEHIND: Final = 1
"""Minor versions by which a proxy may be behind its istiod, and by which istiods and istioctl may differ.

istio.io, Supported Releases: "The Istio control plane can be one version ahead of the data plane. However, the data
plane cannot be ahead of control plane."
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Version texts by name of the component (`cluster1 istiod-x`), and per proxy that of its istiod.

    `charts` are numbers of charts by CRD that say nothing about Istio's release.
    """

    istiods: Mapping[str, str]
    proxies: Mapping[str, tuple[str, str]]
    crds: Mapping[str, str]
    istioctl: str
    charts: Mapping[str, str] = field(default_factory=dict)

    def problems(self) -> dict[str, list[str]]:
        """By component what is wrong with its version; empty lists are good."""
        newest = max((v for text in self.istiods.values() if (v := Version.parse(text))), default=None)
        found = {name: _near(text, newest, "the newest istiod") for name, text in self.istiods.items()}
        found["istioctl"] = _near(self.istioctl, newest, "the newest istiod")
        found |= {name: _near(text, newest, "the newest istiod") for name, text in self.crds.items()}
        found |= {name: _proxy(proxy, istiod) for name, (proxy, istiod) in self.proxies.items()}
        return found


def _near(text: str, newest: Version | None, whose: str) -> list[str]:
    own = Version.parse(text)
    if own is None or newest is None:
        return [f"{text!r} is not a version" if own is None else "no istiod reports a version"]
    ahead = newest.ahead_of(own)
    if ahead is None or abs(ahead) > BEHIND:
        return [f"version {text} and {newest} of {whose} are too far apart (one minor version is supported)"]
    return []


def _proxy(text: str, istiod: str) -> list[str]:
    own, home = Version.parse(text), Version.parse(istiod)
    if own is None or home is None:
        return [f"{text!r} or that of its istiod, {istiod!r}, is not a version"]
    ahead = home.ahead_of(own)
    if ahead is None or ahead > BEHIND:
        return [f"version {text} is too old for its istiod, {istiod}: restart the pod"]
    return [f"version {text} is ahead of its istiod, {istiod}: upgrade istiod first"] if ahead < 0 else []


def served_crds(crds: Sequence[Json]) -> dict[str, frozenset[str]]:
    """The versions that each of Istio's CRDs serves."""
    return {
        crd["metadata"]["name"]: frozenset(v["name"] for v in crd["spec"]["versions"] if v.get("served"))
        for crd in crds
        if crd["metadata"]["name"].endswith(".istio.io")
    }


def crd_versions(crds: Sequence[Json], labels: Sequence[str] = ALL_LABELS) -> dict[str, str]:
    """The version that Istio's CRDs carry in one of these labels, where the installer wrote one; each version once."""
    found: dict[str, str] = {}
    for crd in crds:
        given = crd["metadata"].get("labels") or {}
        text = next((given[label] for label in labels if label in given), "")
        if crd["metadata"]["name"].endswith(".istio.io") and text:
            found.setdefault(text.removeprefix("base-"), crd["metadata"]["name"])
    return {name: text for text, name in found.items()}


def charts_have_releases(istiods: Iterable[tuple[Mapping[str, str], str]]) -> bool:
    """Whether the numbers of the charts in use are those of Istio's releases, by the labels and the version of each
    istiod: a chart that somebody packaged again has any number, and so have its CRDs."""
    found = list(istiods)
    return bool(found) and all(
        (own := Version.parse(_chart_number(labels))) is not None and own == Version.parse(version)
        for labels, version in found
    )


def _chart_number(labels: Mapping[str, str]) -> str:
    return next((labels[label].rpartition("-")[2] for label in CHART_LABELS if label in labels), "")


def crd_problems(served: Mapping[str, frozenset[str]], reference: Mapping[str, frozenset[str]]) -> list[str]:
    """What a cluster's CRDs lack compared to another cluster's; both map a CRD's name to the versions it serves."""
    problems = [f"CRD {name} is missing" for name in sorted(reference.keys() - served.keys())]
    for name in sorted(reference.keys() & served.keys()):
        if lacking := sorted(reference[name] - served[name]):
            problems.append(f"CRD {name} does not serve {', '.join(lacking)}, another cluster's does")
    return problems


def union(served: Iterable[Mapping[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    """Every CRD with every version that some cluster serves."""
    found: dict[str, frozenset[str]] = {}
    for one in served:
        for name, versions in one.items():
            found[name] = found.get(name, frozenset()) | versions
    return found


def gather(snapshot: Snapshot, istioctl: str) -> tuple[Versions, dict[str, dict[str, frozenset[str]]]]:
    """Query every istiod for its version and that of its proxies, and read all CRDs; the second part is by cluster."""
    replicas = [(facts.cluster, pod) for facts in snapshot.facts for pod in facts.istiods]
    clusters = snapshot.mesh.clusters
    reported = together(lambda item: istiod.version(item[0].kube, item[1].name), replicas)
    connected = together(lambda item: istiod.syncz(item[0].kube, item[1].name), replicas)
    crds = together(lambda cluster: cluster.kube.list("CustomResourceDefinition"), clusters)
    labels = [(pod.labels, text) for (_, pod), text in zip(replicas, reported, strict=True)]
    judged = ALL_LABELS if charts_have_releases(labels) else RELEASE_LABELS
    versions = Versions(
        istiods={f"{c} {pod.name}": text for (c, pod), text in zip(replicas, reported, strict=True)},
        proxies={
            f"{proxy.cluster} {proxy.proxy}": (proxy.version, text)
            for proxies, text in zip(connected, reported, strict=True)
            for proxy in proxies
        },
        crds={
            f"{cluster} CRD {name}": text
            for cluster, found in zip(clusters, crds, strict=True)
            for name, text in crd_versions(found, judged).items()
        },
        istioctl=istioctl,
        charts={
            f"{cluster} CRD {name}": text
            for cluster, found in zip(clusters, crds, strict=True)
            for name, text in (crd_versions(found).items() - crd_versions(found, judged).items())
        },
    )
    return versions, {str(c): served_crds(found) for c, found in zip(clusters, crds, strict=True)}
