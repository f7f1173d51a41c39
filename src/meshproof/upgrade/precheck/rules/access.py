"""Rules about webhooks, rights and credentials: what must be alive and allowed while an upgrade goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshproof.clients.istio.reader_rights import READER_SOURCE, reader_rights
from meshproof.core.deadlines import HORIZONS
from meshproof.core.versions import UpgradeTarget, Version
from meshproof.upgrade.precheck.facts import Facts
from meshproof.upgrade.precheck.reader_role import lacking
from meshproof.upgrade.precheck.rule import Found, Rule, Severity


def _webhooks(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster in facts.clusters:
        for hook in cluster.hooks:
            for service in hook.services:
                if service in cluster.services and service in cluster.alive:
                    continue
                state = "has no endpoint that is ready" if service in cluster.services else "is not there"
                of = f"tag {hook.tag} of revision {hook.revision}" if hook.tag else f"revision {hook.revision}"
                refused = "no pod can be made that it selects" if hook.injects else "configuration cannot be changed"
                yield Found(
                    where=f"{cluster.name} webhook {hook.name}",
                    what=f"it is of {of}, and dials Service {service}, which {state}: {refused}",
                    repair=f"move the tag to a revision that runs: istioctl tag set {hook.tag} --revision=REVISION "
                    "--overwrite; or remove it"
                    if hook.tag
                    else "start that istiod again, or remove the webhooks of a revision that is gone",
                )


def _namespaces(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster in facts.clusters:
        served = {hook.tag or hook.revision for hook in cluster.hooks if hook.injects}
        for namespace in cluster.namespaces:
            if namespace.revision not in served:
                there = ", ".join(sorted(served)) or "nothing"
                yield Found(
                    where=f"{cluster.name} namespace {namespace.name}",
                    what=f"its label istio.io/rev={namespace.revision} is neither a revision nor a tag ({there}): pods "
                    "that are restarted in it have no sidecar any more",
                )


def _members(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    there = {istiod.revision for _, istiod in facts.istiods}
    for cluster in facts.clusters:
        served = {hook.tag or hook.revision for hook in cluster.hooks if hook.injects}
        for pod in cluster.members:
            if pod.wants and pod.wants not in served:
                yield Found(
                    where=f"{cluster.name} pod {pod.name}",
                    what=f"its label istio.io/rev={pod.wants} is neither a revision nor a tag "
                    f"({', '.join(sorted(served)) or 'nothing'}): pods like it are no longer injected",
                )
            elif pod.has and there and pod.has not in there:
                yield Found(
                    where=f"{cluster.name} pod {pod.name}",
                    what=f"its proxy is of revision {pod.has}, which has no istiod any more: it keeps what it was told "
                    "last, and its certificate ends",
                    repair="restart the pod",
                )


def _reader(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    for cluster in facts.clusters:
        if cluster.reader is None or not cluster.readers:
            continue
        if missing := lacking(cluster.reader, reader_rights(controlled=not cluster.is_primary)):
            yield Found(
                where=f"{cluster.name} account {cluster.reader.account}",
                what=f"istiod of {', '.join(cluster.readers)} reads the cluster with it, and it may not "
                f"{'; '.join(missing)}",
            )


def _endings(facts: Facts, target: UpgradeTarget) -> Iterator[Found]:
    end, days = facts.now + HORIZONS.upgrade, HORIZONS.upgrade.days
    for cluster in facts.clusters:
        for each in cluster.endings:
            if each.ends < end:
                state = "ended" if each.ends < facts.now else "ends"
                yield Found(
                    where=cluster.name,
                    what=f"{each.what} {state} at {each.ends:%Y-%m-%d %H:%M} UTC, within the {days} days that an "
                    "upgrade may take",
                    severity=Severity.WARNING if each.token else None,
                    repair="make the remote secret again before" if each.token else "",
                )


ACCESS: Final = (
    Rule(
        id="HOOK-01",
        sentence="every webhook and tag leads to an istiod that runs",
        source="istio.io, Canary Upgrades: stable revision labels; kubernetes.io, Admission Webhooks: failure policy",
        severity=Severity.NO_GO,
        repair="remove it, or start what it leads to",
        judge=_webhooks,
    ),
    Rule(
        id="HOOK-02",
        sentence="every namespace that names a revision names one that there is",
        source="istio.io, Canary Upgrades: data plane",
        severity=Severity.NO_GO,
        repair="set the label to a revision or a tag that there is",
        judge=_namespaces,
    ),
    Rule(
        id="HOOK-03",
        sentence="every pod that names a revision, or has a proxy of one, has an istiod of it",
        source="istio.io, Canary Upgrades: data plane; Uninstall old control plane",
        severity=Severity.NO_GO,
        repair="set the label in its Deployment to a revision or a tag that there is",
        judge=_members,
    ),
    Rule(
        id="READER-01",
        sentence="the account by which other clusters read a cluster has the rights that the target's istiod needs",
        source=f"{READER_SOURCE}; istio.io, 1.30.0 Change Notes on clusters without an updated reader role",
        severity=Severity.NO_GO,
        repair="upgrade the reader role in that cluster first: chart istiod of the target, or istioctl manifest "
        "generate, and apply its ClusterRole istio-reader-clusterrole",
        since=Version(1, 29),
        judge=_reader,
    ),
    Rule(
        id="CERT-01",
        sentence="no certificate of a CA ends while the upgrade goes on",
        source="istio.io, Plug in CA Certificates",
        severity=Severity.NO_GO,
        repair="renew it before the upgrade, so that there is one change at a time",
        judge=_endings,
    ),
)
