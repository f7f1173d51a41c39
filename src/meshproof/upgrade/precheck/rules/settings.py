"""Rules about what is set: switches, annotations and images that another release reads in another way."""

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
from meshproof.upgrade.precheck.facts import ClusterSeen, Facts, Istiod, Patch
from meshproof.upgrade.precheck.rule import Found, Rule, Severity


def _removed(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster, istiod in facts.istiods:
        version = Version.parse(istiod.version)
        for gone in REMOVED:
            if gone.name not in istiod.env or gone.since > target.version:
                continue
            set_to = f"{gone.name}={istiod.env[gone.name]}"
            over = version is not None and version >= gone.since
            what = f"{set_to} means nothing since {gone.since}" if over else f"{set_to} means nothing from {gone.since}"
            yield Found(
                where=f"{cluster.name} {istiod.name}",
                what=f"{what}{' on' if not over else ''}",
                severity=Severity.WARNING if over else None,
                repair=f"take it away; {gone.instead}",
                source=gone.source,
            )


def _changed(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster, istiod in facts.istiods:
        version = Version.parse(istiod.version)
        for change in CHANGED:
            if version is None or not version < change.since <= target.version or _kept(istiod, change):
                continue
            touched = cluster.configured.get(change.touches, ()) if change.touches else ()
            yield Found(
                where=f"{cluster.name} {istiod.name}",
                what=f"from {change.since} on {change.now}{_listed(touched)}",
                severity=Severity.WARNING if touched else Severity.NOTE,
                repair=f"see that this is wanted, or set {change.name}={change.before} on istiod",
                source=change.source,
            )


def _kept(istiod: Istiod, change: Changed) -> bool:
    """Whether somebody has decided already, for this switch or for all by a compatibility version."""
    compatibility = Version.parse(istiod.compatibility)
    gone = any(each.name == change.name for each in REMOVED)
    return gone or change.name in istiod.env or (compatibility is not None and compatibility < change.since)


def _listed(things: tuple[str, ...]) -> str:
    if not things:
        return ""
    more = f" and {len(things) - 3} more" if len(things) > 3 else ""
    return f"; that touches {', '.join(things[:3])}{more}"


def _compatibility(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    known = COMPATIBILITY.get(target.version)
    for cluster, istiod in facts.istiods:
        version = Version.parse(istiod.compatibility)
        if known is not None and version is not None and not known[0] <= version <= known[1]:
            yield Found(
                where=f"{cluster.name} {istiod.name}",
                what=f"compatibilityVersion={istiod.compatibility} is none that {target} knows "
                f"({known[0]} to {known[1]}): its chart refuses it",
            )


def _annotations(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    oldest = facts.oldest
    for cluster in facts.clusters:
        for gone in GONE_ANNOTATIONS:
            pods = cluster.annotated.get(gone.name, ())
            if pods and gone.since <= target.version:
                since = "since" if oldest is not None and oldest >= gone.since else "from"
                yield Found(
                    where=cluster.name,
                    what=f"annotation {gone.name} means nothing {since} {gone.since}{_listed(pods)}",
                    repair=f"take it away; {gone.instead}",
                    source=gone.source,
                )


def _hubs(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster, istiod in facts.istiods:
        hub = hub_and_tag(istiod.image)[0]
        if hub.startswith(CLOSED_HUBS):
            yield Found(
                where=f"{cluster.name} {istiod.name}", what=f"its image is from {hub}, where {target} is not published"
            )


def _applies(patch: Patch, target: UpgradeTarget) -> bool:
    try:
        return not patch.version or re.search(patch.version, target.reported_by_proxies) is not None
    except re.error:
        return False


def _rejected(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster, patch in _patches(facts):
        if not _applies(patch, target):
            continue
        if patch.untyped:
            yield Found(
                where=f"{cluster.name} EnvoyFilter {patch.filter}",
                what=f"{patch.kind} {', '.join(patch.untyped)} has no typed_config: proxies of {target} refuse it",
                repair="give it a typed_config with its @type",
                source="istio/istio, releasenotes/notes/no_extension_lookup_by_name.yaml",
            )
        if patch.old_types:
            yield Found(
                where=f"{cluster.name} EnvoyFilter {patch.filter}",
                what=f"{patch.kind} has types of Envoy's API v2, which is gone: {', '.join(patch.old_types)}",
                repair="write it with the types of v3",
                source="istio/istio, pkg/config/validation/envoyfilter/envoyfilter.go",
            )


def _pinned(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    """A patch for some versions of proxies only, and none in its filter for those of the target."""
    for cluster in facts.clusters:
        by_filter: dict[str, list[Patch]] = {}
        for patch in cluster.patches:
            by_filter.setdefault(patch.filter, []).append(patch)
        for name, patches in by_filter.items():
            after = {patch.kind for patch in patches if _applies(patch, target)}
            for patch in patches:
                if not _applies(patch, target) and patch.kind not in after:
                    what = f"{patch.kind} is for proxies {patch.version} only: those of {target} do not get it"
                    yield Found(where=f"{cluster.name} EnvoyFilter {name}", what=what)


def _fragile(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster in facts.clusters:
        names = tuple(dict.fromkeys(patch.filter for patch in cluster.patches if _applies(patch, target)))
        if names:
            shown = f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
            yield Found(where=cluster.name, what=f"EnvoyFilters change what proxies of {target} are given: {shown}")


def _patches(facts: Facts) -> Iterator[tuple[ClusterSeen, Patch]]:
    return ((cluster, patch) for cluster in facts.clusters for patch in cluster.patches)


SETTINGS: Final = (
    Rule(
        id="SET-01",
        sentence="no switch of istiod is set that the target no longer reads",
        source="istio.io, Upgrade Notes",
        severity=Severity.NO_GO,
        repair="take it away",
        judge=_removed,
    ),
    Rule(
        id="SET-02",
        sentence="new defaults on the way are known, and wanted",
        source=COMPATIBILITY_SOURCE,
        severity=Severity.WARNING,
        repair="see that this is wanted",
        judge=_changed,
    ),
    Rule(
        id="SET-03",
        sentence="the target knows the compatibility version that is set",
        source="istio/istio, manifests/charts/istio-control/istio-discovery/templates/zzz_profile.yaml",
        severity=Severity.NO_GO,
        repair="take compatibilityVersion away, or set one that the target knows",
        judge=_compatibility,
    ),
    Rule(
        id="SET-04",
        sentence="no pod has an annotation that the target no longer reads",
        source="istio.io, Upgrade Notes",
        severity=Severity.WARNING,
        repair="take it away",
        judge=_annotations,
    ),
    Rule(
        id="IMAGE-01",
        sentence="images come from where the target is published",
        source=CLOSED_HUBS_SOURCE,
        severity=Severity.WARNING,
        repair="set the hub to docker.io/istio, or to a registry of your own that has them",
        since=CLOSED_HUBS_SINCE,
        judge=_hubs,
    ),
    Rule(
        id="FILTER-01",
        sentence="proxies of the target take every EnvoyFilter that they will be given",
        source="istio/istio, pkg/config/validation/envoyfilter/envoyfilter.go",
        severity=Severity.NO_GO,
        repair="write it anew, or take it away",
        judge=_rejected,
    ),
    Rule(
        id="FILTER-02",
        sentence="EnvoyFilters that are for some proxies only are for those of the target too",
        source="istio.io, EnvoyFilter: ProxyMatch; istio/istio, pilot/pkg/model/envoyfilter.go, proxyMatch",
        severity=Severity.WARNING,
        repair="add a patch for the new proxies, or let it go with the old ones",
        judge=_pinned,
    ),
    Rule(
        id="FILTER-03",
        sentence="nothing depends on how a proxy's configuration is made",
        source="istio.io, EnvoyFilter: it must be monitored across upgrades",
        severity=Severity.WARNING,
        repair="try them on proxies of the target first: one namespace, one pod",
        judge=_fragile,
    ),
)
