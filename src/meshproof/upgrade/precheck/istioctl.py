"""Messages of `istioctl x precheck` and `istioctl analyze` as reasons of a verdict.

The first is about an upgrade, the second about the current configuration, so its messages have a lower severity.
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
"""The user of istioctl has no rights to install; a check does not need them."""


def tool_reasons(mesh: Mesh, target: UpgradeTarget) -> tuple[list[Reason], str]:
    """Reasons, and a description of what was run. A missing or failing istioctl is a reason too."""
    binary = _istioctl_for(target, mesh.toolbox)
    if binary is None:
        return [_not_run("istioctl", "it is not in PATH", "name the istioctl of the target with --istioctl")], ""
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
                what=f"istioctl {version} was used: it checks for {own or version}, not for {target.version}",
                repair="name the istioctl of the target with --istioctl",
                source="istioctl x precheck --help",
            )
        )
    return reasons, f"istioctl {version}: x precheck on {len(mesh.clusters)} clusters, analyze on {len(mesh.primaries)}"


def _istioctl_for(target: UpgradeTarget, toolbox: Toolbox) -> Path | None:
    """The istioctl of the target release if there is one, else the default."""
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
    """Relevant messages by code, since one reason covers many objects; without those about our probes."""
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
    also = f" {len(more)} more: {', '.join(more[:5])}{' …' if len(more) > 5 else ''}" if more else ""
    return Reason(
        rule=rule,
        severity=severity,
        where=f"{cluster} {first.origin}".strip(),
        what=f"{first.code} {first.text}{also}",
        repair=first.page or "follow the message",
        source="istioctl x precheck" if rule == PRECHECK else "istioctl analyze",
    )


def _not_run(where: str, why: str, repair: str) -> Reason:
    return Reason(
        rule=PRECHECK,
        severity=Severity.WARNING,
        where=where,
        what=f"it did not run: {why.splitlines()[0][:300]}",
        repair=repair,
        source="istioctl x precheck --help",
    )
