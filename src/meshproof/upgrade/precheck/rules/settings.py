"""Rules about settings, annotations and images that the target release treats differently."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from meshproof.clients.istio.release_notes import (
    CHANGED,
    CLOSED_HUBS,
    CLOSED_HUBS_SINCE,
    CLOSED_HUBS_SOURCE,
    COMPATIBILITY,
    COMPATIBILITY_SOURCE,
    GONE_ANNOTATIONS,
    REMOVED,
    Changed,
)
from meshproof.core.versions import UpgradeTarget, Version
from meshproof.providers.kubeconfig import hub_and_tag
from meshproof.upgrade.precheck.facts import ClusterSeen, Facts, IstiodFacts, Patch
from meshproof.upgrade.precheck.rule import PrecheckRule, Severity, Violation


def _removed(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster, istiod in facts.istiods:
        version = Version.parse(istiod.version)
        for gone in REMOVED:
            if gone.name not in istiod.env or gone.since > target.version:
                continue
            set_to = f"{gone.name}={istiod.env[gone.name]}"
            over = version is not None and version >= gone.since
            what = (
                f"{set_to} has had no effect since {gone.since}"
                if over
                else f"{set_to} has no effect from {gone.since}"
            )
            yield Violation(
                where=f"{cluster.name} {istiod.name}",
                what=f"{what}{' on' if not over else ''}",
                severity=Severity.WARNING if over else None,
                repair=f"remove it; {gone.instead}",
                source=gone.source,
            )


def _changed(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster, istiod in facts.istiods:
        version = Version.parse(istiod.version)
        for change in CHANGED:
            if version is None or not version < change.since <= target.version or _kept(istiod, change):
                continue
            touched = cluster.configured.get(change.touches, ()) if change.touches else ()
            yield Violation(
                where=f"{cluster.name} {istiod.name}",
                what=f"from {change.since} on {change.now}{_listed(touched)}",
                severity=Severity.WARNING if touched else Severity.NOTE,
                repair=f"confirm that this is intended, or set {change.name}={change.before} on istiod",
                source=change.source,
            )


def _kept(istiod: IstiodFacts, change: Changed) -> bool:
    """Whether the operator has decided already, for this setting or by a compatibility version."""
    compatibility = Version.parse(istiod.compatibility)
    gone = any(each.name == change.name for each in REMOVED)
    return gone or change.name in istiod.env or (compatibility is not None and compatibility < change.since)


def _listed(things: tuple[str, ...]) -> str:
    if not things:
        return ""
    more = f" and {len(things) - 3} more" if len(things) > 3 else ""
    return f"; this affects {', '.join(things[:3])}{more}"


def _compatibility(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    known = COMPATIBILITY.get(target.version)
    for cluster, istiod in facts.istiods:
        version = Version.parse(istiod.compatibility)
        if known is not None and version is not None and not known[0] <= version <= known[1]:
            yield Violation(
                where=f"{cluster.name} {istiod.name}",
                what=f"compatibilityVersion={istiod.compatibility} is not supported by {target} "
                f"({known[0]} to {known[1]}): its chart rejects it",
            )


def _annotations(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    oldest = facts.oldest
    for cluster in facts.clusters:
        for gone in GONE_ANNOTATIONS:
            pods = cluster.annotated.get(gone.name, ())
            if pods and gone.since <= target.version:
                over = oldest is not None and oldest >= gone.since
                effect = "has had no effect since" if over else "has no effect from"
                yield Violation(
                    where=cluster.name,
                    what=f"annotation {gone.name} {effect} {gone.since}{'' if over else ' on'}{_listed(pods)}",
                    repair=f"remove it; {gone.instead}",
                    source=gone.source,
                )


def _hubs(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster, istiod in facts.istiods:
        hub = hub_and_tag(istiod.image)[0]
        if hub.startswith(CLOSED_HUBS):
            yield Violation(
                where=f"{cluster.name} {istiod.name}", what=f"its image is from {hub}, where {target} is not published"
            )


def _applies(patch: Patch, target: UpgradeTarget) -> bool:
    try:
        return not patch.version or re.search(patch.version, target.reported_by_proxies) is not None
    except re.error:
        return False


def _rejected(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster, patch in _patches(facts):
        if not _applies(patch, target):
            continue
        if patch.untyped:
            yield Violation(
                where=f"{cluster.name} EnvoyFilter {patch.filter}",
                what=f"{patch.kind} {', '.join(patch.untyped)} has no typed_config: proxies of {target} reject it",
                repair="give it a typed_config with its @type",
                source="istio/istio, releasenotes/notes/no_extension_lookup_by_name.yaml",
            )
        if patch.old_types:
            yield Violation(
                where=f"{cluster.name} EnvoyFilter {patch.filter}",
                what=f"{patch.kind} has types of Envoy's removed API v2: {', '.join(patch.old_types)}",
                repair="use the types of API v3",
                source="istio/istio, pkg/config/validation/envoyfilter/envoyfilter.go",
            )


def _pinned(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    """A patch for certain proxy versions only, in a filter without a patch for those of the target."""
    for cluster in facts.clusters:
        by_filter: dict[str, list[Patch]] = {}
        for patch in cluster.patches:
            by_filter.setdefault(patch.filter, []).append(patch)
        for name, patches in by_filter.items():
            after = {patch.kind for patch in patches if _applies(patch, target)}
            for patch in patches:
                if not _applies(patch, target) and patch.kind not in after:
                    what = f"{patch.kind} applies to proxies {patch.version} only: those of {target} do not get it"
                    yield Violation(where=f"{cluster.name} EnvoyFilter {name}", what=what)


def _fragile(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster in facts.clusters:
        names = tuple(dict.fromkeys(patch.filter for patch in cluster.patches if _applies(patch, target)))
        if names:
            shown = f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
            yield Violation(
                where=cluster.name, what=f"EnvoyFilters change the configuration of proxies of {target}: {shown}"
            )


def _patches(facts: Facts) -> Iterator[tuple[ClusterSeen, Patch]]:
    return ((cluster, patch) for cluster in facts.clusters for patch in cluster.patches)


SETTINGS: Final = (
    PrecheckRule(
        id="SET-01",
        sentence="istiod has no setting that the target no longer reads",
        source="istio.io, Upgrade Notes",
        severity=Severity.NO_GO,
        repair="remove it",
        judge=_removed,
    ),
    PrecheckRule(
        id="SET-02",
        sentence="changed defaults up to the target are known and intended",
        source=COMPATIBILITY_SOURCE,
        severity=Severity.WARNING,
        repair="confirm that this is intended",
        judge=_changed,
    ),
    PrecheckRule(
        id="SET-03",
        sentence="the target supports the configured compatibility version",
        source="istio/istio, manifests/charts/istio-control/istio-discovery/templates/zzz_profile.yaml",
        severity=Severity.NO_GO,
        repair="remove compatibilityVersion, or set one that the target supports",
        judge=_compatibility,
    ),
    PrecheckRule(
        id="SET-04",
        sentence="no pod has an annotation that the target no longer reads",
        source="istio.io, Upgrade Notes",
        severity=Severity.WARNING,
        repair="remove it",
        judge=_annotations,
    ),
    PrecheckRule(
        id="IMAGE-01",
        sentence="images come from a registry where the target is published",
        source=CLOSED_HUBS_SOURCE,
        severity=Severity.WARNING,
        repair="set the hub to docker.io/istio, or to a registry of your own that has them",
        since=CLOSED_HUBS_SINCE,
        judge=_hubs,
    ),
    PrecheckRule(
        id="FILTER-01",
        sentence="proxies of the target accept every EnvoyFilter that they get",
        source="istio/istio, pkg/config/validation/envoyfilter/envoyfilter.go",
        severity=Severity.NO_GO,
        repair="rewrite or remove it",
        judge=_rejected,
    ),
    PrecheckRule(
        id="FILTER-02",
        sentence="EnvoyFilters for certain proxy versions also apply to those of the target",
        source="istio.io, EnvoyFilter: ProxyMatch; istio/istio, pilot/pkg/model/envoyfilter.go, proxyMatch",
        severity=Severity.WARNING,
        repair="add a patch for the new proxies, or remove it after the upgrade",
        judge=_pinned,
    ),
    PrecheckRule(
        id="FILTER-03",
        sentence="no EnvoyFilter depends on details of generated proxy configuration",
        source="istio.io, EnvoyFilter: it must be monitored across upgrades",
        severity=Severity.WARNING,
        repair="test them on proxies of the target first: one namespace, one pod",
        judge=_fragile,
    ),
)
