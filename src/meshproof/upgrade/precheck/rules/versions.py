"""Rules about versions: of istiods, proxies and Kubernetes, and of the kinds that Istio reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from meshproof.clients.istio.release_notes import (
    BUNDLES,
    BUNDLES_SOURCE,
    CRDS,
    CRDS_SOURCE,
    KUBERNETES,
    LAST_KNOWN,
)
from meshproof.controlplane.versions import BEHIND
from meshproof.core.versions import UpgradeTarget, Version
from meshproof.upgrade.precheck.facts import Crd, Facts
from meshproof.upgrade.precheck.rule import Found, Rule, Severity

_AT_ONCE: Final = 2
"""Minor versions that a canary upgrade may go at once; in place it is one."""


def _known(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    if target.version > LAST_KNOWN:
        yield Found(
            where="mesh",
            what=f"what {target.version} changes is not known here: these rules end with {LAST_KNOWN}",
        )


def _way(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    unread = {each.where for each in facts.withheld if each.what.startswith("Deployment")}
    for cluster in facts.clusters:
        if cluster.is_primary and not cluster.istiods and cluster.name not in unread:
            yield Found(where=cluster.name, what="no istiod is there", repair="an upgrade begins with what runs")
    for cluster, istiod in facts.istiods:
        where = f"{cluster.name} {istiod.name}"
        version = Version.parse(istiod.version)
        if version is None:
            yield Found(
                where=where,
                what=f"its version {istiod.version!r} is none, so nothing says how far it is to {target}",
                severity=Severity.WARNING,
                repair="look at its image",
            )
            continue
        ahead = target.version.ahead_of(version)
        if ahead is None or ahead > _AT_ONCE:
            yield Found(where=where, what=f"{istiod.version} is too far from {target}: {ahead} minor versions")
        elif ahead < 0:
            yield Found(
                where=where,
                what=f"{istiod.version} is newer than {target}: that is no upgrade, and its proxies would be ahead",
                repair="name a version that is not older than what runs",
            )
        elif ahead == _AT_ONCE:
            yield Found(
                where=where,
                what=f"{istiod.version} is two minor versions behind {target}: that can be had by revisions only",
                severity=Severity.WARNING,
                repair="install the new control plane beside the old one, as a revision; never in place",
            )


def _proxies(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for proxy in facts.proxies:
        own, home = Version.parse(proxy.version), Version.parse(proxy.istiod)
        if own is None or home is None:
            continue
        if own > home:
            what = f"{proxy.version} is ahead of its istiod, {proxy.istiod}"
            yield Found(where=proxy.where, what=what, repair="upgrade its istiod first, or restart the pod")
        elif own < home and (target.version.ahead_of(own) or 0) > BEHIND:
            yield Found(where=proxy.where, what=f"{proxy.version} would be more than one minor version behind {target}")


def _kubernetes(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    supported = next((each for each in KUBERNETES if each.istio == target.version), None)
    if supported is None:
        return
    span = f"{supported.first} to {supported.last}"
    for cluster in facts.clusters:
        version = Version.parse(cluster.kubernetes)
        if version is not None and version < supported.first:
            what = f"Kubernetes {cluster.kubernetes} is older than what {target} supports ({span})"
            yield Found(where=cluster.name, what=what, source=supported.source)
        elif version is not None and version > supported.last:
            yield Found(
                where=cluster.name,
                what=f"Kubernetes {cluster.kubernetes} is newer than what {target} was tested with ({span})",
                severity=Severity.WARNING,
                repair="try it on other clusters first, or take a newer Istio",
                source=supported.source,
            )


def _stored(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    if not Version(1, 30) <= target.version <= LAST_KNOWN:
        return
    for cluster in facts.clusters:
        for crd in cluster.crds:
            if lost := sorted(crd.stored - CRDS.get(crd.name, crd.stored)):
                what = f"CRD {crd.name} has objects stored as {', '.join(lost)}, which {target} no longer has"
                yield Found(where=cluster.name, what=what)


def _behind(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    if not Version(1, 30) <= target.version <= LAST_KNOWN:
        return
    for cluster in facts.clusters:
        there = {crd.name: crd.served for crd in cluster.crds}
        if not cluster.is_primary or not there:
            continue
        missing = [name for name in CRDS if name not in there]
        older = [name for name, wanted in CRDS.items() if name in there and wanted - there[name]]
        if missing or older:
            what = f"CRDs that {target} brings are not there, or older: {', '.join((*missing, *older))}"
            yield Found(where=cluster.name, what=what)


_SEMVER: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def _bundles(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster in facts.clusters:
        crds = {crd.name: crd for crd in cluster.crds}
        for wanted in BUNDLES:
            crd = crds.get(wanted.crd)
            if crd is None or target.version < wanted.since or _at_least(crd, wanted.least):
                continue
            least = ".".join(map(str, wanted.least))
            found = crd.bundle or "a release that it does not tell"
            what = f"CRD {crd.name} is of Gateway API {found}, and {target} looks at {least} or newer only"
            if crd.in_use is False:
                yield Found(where=cluster.name, what=f"{what}; there is no object of it", severity=Severity.NOTE)
            elif crd.in_use is None:
                yield Found(where=cluster.name, what=f"{what}; nobody knows if it is used", severity=Severity.WARNING)
            else:
                yield Found(where=cluster.name, what=f"{what}: the objects that are there will be ignored")


def _at_least(crd: Crd, least: tuple[int, int, int]) -> bool:
    found = _SEMVER.match(crd.bundle)
    return found is not None and (int(found[1]), int(found[2]), int(found[3])) >= least


_BETA: Final = frozenset({"gateways", "gatewayclasses", "httproutes", "referencegrants"})


def _served(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster in facts.clusters:
        for crd in cluster.crds:
            plural, _, group = crd.name.partition(".")
            if group == "gateway.networking.k8s.io" and plural in _BETA and "v1beta1" not in crd.served:
                yield Found(
                    where=cluster.name,
                    what=f"CRD {crd.name} serves {', '.join(sorted(crd.served)) or 'nothing'}, and not v1beta1",
                )


VERSIONS: Final = (
    Rule(
        id="DATA-01",
        sentence="what the target changes is known",
        source="the source and the notes of Istio up to that release",
        severity=Severity.WARNING,
        repair="read the upgrade notes of the target, or take a newer meshproof",
        judge=_known,
    ),
    Rule(
        id="SKEW-01",
        sentence="the target is one minor version ahead of every istiod at most, or two by revisions",
        source="istio.io, Canary Upgrades; In-place Upgrades",
        severity=Severity.NO_GO,
        repair="go there in steps of one minor version",
        judge=_way,
    ),
    Rule(
        id="SKEW-02",
        sentence="no proxy is ahead of its istiod, or would be more than one minor version behind the target",
        source="istio.io, Supported Releases: Control Plane/Data Plane Skew",
        severity=Severity.NO_GO,
        repair="restart the pod first, so that it gets the proxy of its istiod",
        judge=_proxies,
    ),
    Rule(
        id="K8S-01",
        sentence="the target supports the Kubernetes of every cluster",
        source="istio.io, Supported Releases",
        severity=Severity.NO_GO,
        repair="upgrade Kubernetes first",
        judge=_kubernetes,
    ),
    Rule(
        id="CRD-01",
        sentence="the target's CRDs have all versions in which objects are stored",
        source=f"{CRDS_SOURCE}; kubernetes.io, Versions in CustomResourceDefinitions",
        severity=Severity.NO_GO,
        repair="write the objects again in a newer version, then take the old one from status.storedVersions",
        judge=_stored,
    ),
    Rule(
        id="CRD-02",
        sentence="the CRDs of the target are there already",
        source=CRDS_SOURCE,
        severity=Severity.WARNING,
        repair="upgrade the base chart first: helm upgrades no CRD by itself",
        judge=_behind,
    ),
    Rule(
        id="GWAPI-01",
        sentence="CRDs of the Gateway API are new enough for the target to look at them",
        source=BUNDLES_SOURCE,
        severity=Severity.NO_GO,
        repair="upgrade the CRDs of the Gateway API first",
        judge=_bundles,
    ),
    Rule(
        id="GWAPI-02",
        sentence="CRDs of the Gateway API serve v1beta1",
        source="istio/istio, istioctl/pkg/precheck/precheck.go, checkGatewayAPIs",
        severity=Severity.NO_GO,
        repair="upgrade the CRDs of the Gateway API first",
        judge=_served,
    ),
)
