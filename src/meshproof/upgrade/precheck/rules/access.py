"""Rules about webhooks, rights and credentials during an upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshproof.clients.istio.reader_rights import READER_SOURCE, reader_rights
from meshproof.core.deadlines import HORIZONS
from meshproof.core.versions import UpgradeTarget, Version
from meshproof.upgrade.precheck.facts import Facts
from meshproof.upgrade.precheck.reader_role import lacking
from meshproof.upgrade.precheck.rule import PrecheckRule, Severity, Violation


def _webhooks(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster in facts.clusters:
        for hook in cluster.hooks:
            for service in hook.services:
                if service in cluster.services and service in cluster.alive:
                    continue
                state = "has no ready endpoint" if service in cluster.services else "does not exist"
                of = f"tag {hook.tag} of revision {hook.revision}" if hook.tag else f"revision {hook.revision}"
                effect = "pods that it selects are rejected" if hook.injects else "configuration changes are rejected"
                yield Violation(
                    where=f"{cluster.name} webhook {hook.name}",
                    what=f"it is of {of} and calls Service {service}, which {state}: {effect}",
                    repair=f"move the tag to a revision that runs: istioctl tag set {hook.tag} --revision=REVISION "
                    "--overwrite; or remove it"
                    if hook.tag
                    else "start that istiod, or remove the webhooks of a removed revision",
                )


def _namespaces(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster in facts.clusters:
        served = {hook.tag or hook.revision for hook in cluster.hooks if hook.injects}
        for namespace in cluster.namespaces:
            if namespace.revision not in served:
                there = ", ".join(sorted(served)) or "nothing"
                yield Violation(
                    where=f"{cluster.name} namespace {namespace.name}",
                    what=f"its label istio.io/rev={namespace.revision} is neither a revision nor a tag ({there}): pods "
                    "that restart in it get no sidecar",
                )


def _members(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    there = {istiod.revision for _, istiod in facts.istiods}
    for cluster in facts.clusters:
        served = {hook.tag or hook.revision for hook in cluster.hooks if hook.injects}
        for pod in cluster.members:
            if pod.wants and pod.wants not in served:
                yield Violation(
                    where=f"{cluster.name} pod {pod.name}",
                    what=f"its label istio.io/rev={pod.wants} is neither a revision nor a tag "
                    f"({', '.join(sorted(served)) or 'nothing'}): pods like it are no longer injected",
                )
            elif pod.has and there and pod.has not in there:
                yield Violation(
                    where=f"{cluster.name} pod {pod.name}",
                    what=f"its proxy is of revision {pod.has}, which has no istiod: it keeps its last configuration, "
                    "and its certificate expires",
                    repair="restart the pod",
                )


def _reader(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    for cluster in facts.clusters:
        if cluster.reader is None or not cluster.readers:
            continue
        if missing := lacking(cluster.reader, reader_rights(controlled=not cluster.is_primary)):
            yield Violation(
                where=f"{cluster.name} account {cluster.reader.account}",
                what=f"istiod of {', '.join(cluster.readers)} reads the cluster with it, but it may not "
                f"{'; '.join(missing)}",
            )


def _endings(facts: Facts, target: UpgradeTarget) -> Iterator[Violation]:
    end, days = facts.now + HORIZONS.upgrade, HORIZONS.upgrade.days
    for cluster in facts.clusters:
        for each in cluster.expiring:
            if each.ends < end:
                state = "expired" if each.ends < facts.now else "expires"
                yield Violation(
                    where=cluster.name,
                    what=f"{each.what} {state} at {each.ends:%Y-%m-%d %H:%M} UTC, within the {days} days that an "
                    "upgrade may take",
                    severity=Severity.WARNING if each.token else None,
                    repair="renew the remote secret before the upgrade" if each.token else "",
                )


ACCESS: Final = (
    PrecheckRule(
        id="HOOK-01",
        sentence="every webhook and tag refers to a running istiod",
        source="istio.io, Canary Upgrades: stable revision labels; kubernetes.io, Admission Webhooks: failure policy",
        severity=Severity.NO_GO,
        repair="remove it, or start the istiod that it refers to",
        judge=_webhooks,
    ),
    PrecheckRule(
        id="HOOK-02",
        sentence="the revision label of every namespace refers to an existing revision or tag",
        source="istio.io, Canary Upgrades: data plane",
        severity=Severity.NO_GO,
        repair="set the label to an existing revision or tag",
        judge=_namespaces,
    ),
    PrecheckRule(
        id="HOOK-03",
        sentence="every pod with a revision label, or with a proxy of a revision, has an istiod of that revision",
        source="istio.io, Canary Upgrades: data plane; Uninstall old control plane",
        severity=Severity.NO_GO,
        repair="set the label in its Deployment to an existing revision or tag",
        judge=_members,
    ),
    PrecheckRule(
        id="READER-01",
        sentence="the account with which other clusters read a cluster has the rights that the target's istiod needs",
        source=f"{READER_SOURCE}; istio.io, 1.30.0 Change Notes on clusters without an updated reader role",
        severity=Severity.NO_GO,
        repair="upgrade the reader role in that cluster first: chart istiod of the target, or istioctl manifest "
        "generate, and apply its ClusterRole istio-reader-clusterrole",
        since=Version(1, 29),
        judge=_reader,
    ),
    PrecheckRule(
        id="CERT-01",
        sentence="no CA certificate expires during the upgrade",
        source="istio.io, Plug in CA Certificates",
        severity=Severity.NO_GO,
        repair="renew it before the upgrade, so that there is one change at a time",
        judge=_endings,
    ),
)
