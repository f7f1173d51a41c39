"""What `istioctl x precheck` and `istioctl analyze` say, as reasons of a verdict.

The first is about an upgrade, the second about the configuration as it is, so what it finds weighs less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from meshproof.clients.istio.istioctl import Istioctl, Message
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken
from meshproof.core.versions import UpgradeTarget, Version
from meshproof.mesh.access import Toolbox
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.upgrade.precheck.rule import Reason, Severity

PRECHECK: Final = "PRECHECK"
ANALYZE: Final = "ANALYZE"
_MAY_NOT_INSTALL: Final = "IST0141"
"""Says of whoever runs istioctl that he may not install; whoever checks need not."""


def tool_reasons(mesh: Mesh, target: UpgradeTarget) -> tuple[list[Reason], str]:
    """Reasons, and what was run. An istioctl that is missing, or fails, is a reason too: something was not seen."""
    binary = _istioctl_for(target, mesh.toolbox)
    if binary is None:
        return [_not_run("istioctl", "there is none in PATH", "name that of the target with --istioctl")], ""
    try:
        version = Istioctl(binary, mesh.clusters[0].access.kubeconfig, mesh.clusters[0].access.context).version()
    except Broken as problem:
        return [_not_run("istioctl version", str(problem), "name another with --istioctl")], ""
    found = together(
        lambda cluster: list(_of_cluster(cluster, Istioctl(binary, cluster.access.kubeconfig, cluster.access.context))),
        mesh.clusters,
    )
    reasons = [reason for each in found for reason in each]
    own = Version.parse(version)
    if own != target.version:
        reasons.append(
            Reason(
                rule=PRECHECK,
                severity=Severity.NOTE,
                where="istioctl",
                what=f"istioctl {version} has judged: it knows what {own or version} wants, not {target.version}",
                repair="name the istioctl of the target with --istioctl",
                source="istioctl x precheck --help",
            )
        )
    return reasons, f"istioctl {version}: x precheck on {len(mesh.clusters)} clusters, analyze on {len(mesh.primaries)}"


def _istioctl_for(target: UpgradeTarget, toolbox: Toolbox) -> Path | None:
    """That of the target knows what it wants; else the one that is used."""
    fitting = (path for number, path in toolbox.istioctls.items() if Version.parse(number) == target.version)
    return next(fitting, toolbox.istioctl)


def _of_cluster(cluster: Cluster, tool: Istioctl) -> Iterator[Reason]:
    try:
        for messages in _alike(tool.precheck()):
            yield _prechecked(cluster, messages)
    except Broken as problem:
        yield _not_run(f"{cluster} istioctl x precheck", str(problem), "run it by hand")
    if not cluster.is_primary:  # configuration is read in primaries only
        return
    try:
        for messages in _alike(tool.analyze()):
            yield _reason(ANALYZE, _weight(messages, Severity.WARNING, Severity.NOTE), cluster, messages)
    except Broken as problem:
        yield _not_run(f"{cluster} istioctl analyze", str(problem), "run it by hand")


def _alike(messages: Iterable[Message]) -> Iterable[list[Message]]:
    """Those that weigh something, by what they say; one reason tells of many objects. Our probes are left out."""
    found: dict[str, list[Message]] = {}
    for message in messages:
        if message.weighty and not names.is_probe_namespace(message.origin.rpartition(" ")[2]):
            found.setdefault(message.code, []).append(message)
    return found.values()


def _prechecked(cluster: Cluster, messages: list[Message]) -> Reason:
    if messages[0].code == _MAY_NOT_INSTALL:
        return _reason(PRECHECK, Severity.NOTE, cluster, messages)
    return _reason(PRECHECK, _weight(messages, Severity.NO_GO, Severity.WARNING), cluster, messages)


def _weight(messages: list[Message], of_errors: Severity, of_warnings: Severity) -> Severity:
    return of_errors if any(message.level == "Error" for message in messages) else of_warnings


def _reason(rule: str, severity: Severity, cluster: Cluster, messages: list[Message]) -> Reason:
    first, *others = messages
    more = [message.origin or message.text for message in others]
    also = f" And {len(more)} like it: {', '.join(more[:5])}{' …' if len(more) > 5 else ''}" if more else ""
    return Reason(
        rule=rule,
        severity=severity,
        where=f"{cluster} {first.origin}".strip(),
        what=f"{first.code} {first.text}{also}",
        repair=first.page or "see what the message says",
        source="istioctl x precheck" if rule == PRECHECK else "istioctl analyze",
    )


def _not_run(where: str, why: str, repair: str) -> Reason:
    return Reason(
        rule=PRECHECK,
        severity=Severity.WARNING,
        where=where,
        what=f"it was not asked: {why.splitlines()[0][:300]}",
        repair=repair,
        source="istioctl x precheck --help",
    )
