"""Expectations for an istiod outage: traffic continues, and admission fails closed only in the clusters it controls."""

from __future__ import annotations

from meshproof.failover.drill import Drill
from meshproof.failover.istiod_outage import Outage
from meshproof.load.history import Window, summarise
from meshproof.probes.admission import DryRun


def versions_answering(drill: Drill, window: Window, source: str) -> set[str]:
    """The versions of the application that responded to a source."""
    return set(summarise(drill.history.sent_in(window, sources=(source,))).versions)


def closed(outage: Outage, name: str) -> list[str]:
    """What was not rejected in a cluster whose control plane was down. Positive control: it was accepted before."""
    before, during = outage.before[name], outage.during[name]
    problems = [] if before.pod.verdict is DryRun.ACCEPTED else [f"before the outage a pod was {before.pod}"]
    if not during.pod.by_webhook:
        problems.append(f"a new pod was {during.pod}")
    if outage.pods_during.get(name):
        problems.append(f"the Deployment has pods: {', '.join(outage.pods_during[name])}")
    if before.guarded:
        problems += (
            []
            if before.good_config.verdict is DryRun.ACCEPTED
            else [f"before the outage valid Istio configuration was {before.good_config}"]
        )
        problems += (
            []
            if before.bad_config.verdict is DryRun.REFUSED
            else ["before the outage invalid Istio configuration was accepted"]
        )
        problems += [] if during.good_config.by_webhook else [f"valid Istio configuration was {during.good_config}"]
    elif name == outage.victim.name:
        problems.append("its validation webhook does not fail closed (failurePolicy is not Fail)")
    return problems


def still_open(outage: Outage, name: str) -> list[str]:
    """What was wrongly rejected in a cluster with another control plane."""
    during = outage.during[name]
    problems = [] if during.pod.verdict is DryRun.ACCEPTED else [f"a new pod was {during.pod}"]
    problems += (
        [] if during.good_config.verdict is DryRun.ACCEPTED else [f"valid Istio configuration was {during.good_config}"]
    )
    return problems + (
        [] if during.bad_config.verdict is DryRun.REFUSED else ["invalid Istio configuration was accepted"]
    )
