"""Rules about versions of istiods, proxies, Kubernetes and CRDs."""

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
from meshproof.upgrade.precheck.rule import PrecheckRule, Severity, Violation

_AT_ONCE: Final = 2
"""Minor versions that a canary upgrade may span; in place it is one."""


def _known(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    if target.version > LAST_KNOWN:
        yield Violation(
            where="mesh",
            what=f"the changes of {target.version} are unknown: these rules cover releases up to {LAST_KNOWN}",
        )


def _way(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    unread = {each.where for each in facts.withheld if each.what.startswith("Deployment")}
    for cluster in facts.clusters:
        if cluster.is_primary and not cluster.istiods and cluster.name not in unread:
            yield Violation(
                where=cluster.name,
                what="there is no istiod",
                repair="install Istio; only a running mesh can be upgraded",
            )
    for cluster, istiod in facts.istiods:
        where = f"{cluster.name} {istiod.name}"
        version = Version.parse(istiod.version)
        if version is None:
            yield Violation(
                where=where,
                what=f"its version {istiod.version!r} cannot be parsed, so the distance to {target} is unknown",
                severity=Severity.WARNING,
                repair="check its image",
            )
            continue
        ahead = target.version.ahead_of(version)
        if ahead is None or ahead > _AT_ONCE:
            yield Violation(where=where, what=f"{istiod.version} is too far from {target}: {ahead} minor versions")
        elif ahead < 0:
            yield Violation(
                where=where,
                what=f"{istiod.version} is newer than {target}: that is not an upgrade, and its proxies would be ahead",
                repair="name a version that is not older than the installed one",
            )
        elif ahead == _AT_ONCE:
            yield Violation(
                where=where,
                what=f"{istiod.version} is two minor versions behind {target}: that needs an upgrade by revision",
                severity=Severity.WARNING,
                repair="install the new control plane as a revision next to the old one, never in place",
            )


def _proxies(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for proxy in facts.proxies:
        own, of_istiod = Version.parse(proxy.version), Version.parse(proxy.istiod)
        if own is None or of_istiod is None:
            continue
        if own > of_istiod:
            what = f"{proxy.version} is ahead of its istiod, {proxy.istiod}"
            yield Violation(where=proxy.where, what=what, repair="upgrade its istiod first, or restart the pod")
        elif own < of_istiod and (target.version.ahead_of(own) or 0) > BEHIND:
            yield Violation(
                where=proxy.where, what=f"{proxy.version} would be more than one minor version behind {target}"
            )


def _kubernetes(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    supported = next((each for each in KUBERNETES if each.istio == target.version), None)
    if supported is None:
        return
    span = f"{supported.first} to {supported.last}"
    for cluster in facts.clusters:
        version = Version.parse(cluster.kubernetes)
        if version is not None and version < supported.first:
            what = f"Kubernetes {cluster.kubernetes} is older than what {target} supports ({span})"
            yield Violation(where=cluster.name, what=what, source=supported.source)
        elif version is not None and version > supported.last:
            yield Violation(
                where=cluster.name,
                what=f"Kubernetes {cluster.kubernetes} is newer than what {target} was tested with ({span})",
                severity=Severity.WARNING,
                repair="test it on other clusters first, or choose a newer Istio",
                source=supported.source,
            )


def _stored(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    if not Version(1, 30) <= target.version <= LAST_KNOWN:
        return
    for cluster in facts.clusters:
        for crd in cluster.crds:
            if lost := sorted(crd.stored - CRDS.get(crd.name, crd.stored)):
                what = f"CRD {crd.name} has objects stored as {', '.join(lost)}, a version that {target} has removed"
                yield Violation(where=cluster.name, what=what)


def _behind(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    if not Version(1, 30) <= target.version <= LAST_KNOWN:
        return
    for cluster in facts.clusters:
        there = {crd.name: crd.served for crd in cluster.crds}
        if not cluster.is_primary or not there:
            continue
        missing = [name for name in CRDS if name not in there]
        older = [name for name, wanted in CRDS.items() if name in there and wanted - there[name]]
        if missing or older:
            what = f"CRDs of {target} are missing or older: {', '.join((*missing, *older))}"
            yield Violation(where=cluster.name, what=what)


_SEMVER: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def _bundles(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster in facts.clusters:
        crds = {crd.name: crd for crd in cluster.crds}
        for wanted in BUNDLES:
            crd = crds.get(wanted.crd)
            if crd is None or target.version < wanted.since or _at_least(crd, wanted.least):
                continue
            least = ".".join(map(str, wanted.least))
            found = crd.bundle or "an unknown release"
            what = f"CRD {crd.name} is of Gateway API {found}, but {target} uses only {least} or newer"
            if crd.in_use is False:
                yield Violation(where=cluster.name, what=f"{what}; no object of it exists", severity=Severity.NOTE)
            elif crd.in_use is None:
                yield Violation(
                    where=cluster.name, what=f"{what}; whether it is used is unknown", severity=Severity.WARNING
                )
            else:
                yield Violation(where=cluster.name, what=f"{what}: existing objects will be ignored")


def _at_least(crd: Crd, least: tuple[int, int, int]) -> bool:
    found = _SEMVER.match(crd.bundle)
    return found is not None and (int(found[1]), int(found[2]), int(found[3])) >= least


_BETA: Final = frozenset({"gateways", "gatewayclasses", "httproutes", "referencegrants"})


def _served(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster in facts.clusters:
        for crd in cluster.crds:
            plural, _, group = crd.name.partition(".")
            if group == "gateway.networking.k8s.io" and plural in _BETA and "v1beta1" not in crd.served:
                yield Violation(
                    where=cluster.name,
                    what=f"CRD {crd.name} serves {', '.join(sorted(crd.served)) or 'nothing'}, but not v1beta1",
                )


VERSIONS: Final = (
    PrecheckRule(
        id="DATA-01",
        sentence="the changes of the target are known",
        source="source code and notes of Istio up to that release",
        severity=Severity.WARNING,
        repair="read the upgrade notes of the target, or use a newer meshproof",
        judge=_known,
    ),
    PrecheckRule(
        id="SKEW-01",
        sentence="the target is at most one minor version ahead of every istiod, or two by revision",
        source="istio.io, Canary Upgrades; In-place Upgrades",
        severity=Severity.NO_GO,
        repair="upgrade one minor version at a time",
        judge=_way,
    ),
    PrecheckRule(
        id="SKEW-02",
        sentence="no proxy is ahead of its istiod, or more than one minor version behind the target",
        source="istio.io, Supported Releases: Control Plane/Data Plane Skew",
        severity=Severity.NO_GO,
        repair="restart the pod first, so that it gets the proxy of its istiod",
        judge=_proxies,
    ),
    PrecheckRule(
        id="K8S-01",
        sentence="the target supports the Kubernetes of every cluster",
        source="istio.io, Supported Releases",
        severity=Severity.NO_GO,
        repair="upgrade Kubernetes first",
        judge=_kubernetes,
    ),
    PrecheckRule(
        id="CRD-01",
        sentence="the target's CRDs have all versions in which objects are stored",
        source=f"{CRDS_SOURCE}; kubernetes.io, Versions in CustomResourceDefinitions",
        severity=Severity.NO_GO,
        repair="rewrite the objects in a newer version, then remove the old one from status.storedVersions",
        judge=_stored,
    ),
    PrecheckRule(
        id="CRD-02",
        sentence="the CRDs of the target are installed",
        source=CRDS_SOURCE,
        severity=Severity.WARNING,
        repair="upgrade the base chart first: helm does not upgrade CRDs by itself",
        judge=_behind,
    ),
    PrecheckRule(
        id="GWAPI-01",
        sentence="CRDs of the Gateway API are new enough for the target",
        source=BUNDLES_SOURCE,
        severity=Severity.NO_GO,
        repair="upgrade the CRDs of the Gateway API first",
        judge=_bundles,
    ),
    PrecheckRule(
        id="GWAPI-02",
        sentence="CRDs of the Gateway API serve v1beta1",
        source="istio/istio, istioctl/pkg/precheck/precheck.go, checkGatewayAPIs",
        severity=Severity.NO_GO,
        repair="upgrade the CRDs of the Gateway API first",
        judge=_served,
    ),
)
