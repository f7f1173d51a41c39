"""What an outage of istiod must show: nobody falls silent, and admission fails closed where it governs only."""

from __future__ import annotations

from meshproof.failover.drill import Drill
from meshproof.failover.istiod_outage import Outage
from meshproof.load.history import Window, summarise
from meshproof.probes.admission import Verdict


def versions_answering(drill: Drill, window: Window, source: str) -> set[str]:
    """The versions of the application that a source was answered by."""
    return set(summarise(drill.history.sent_in(window, sources=(source,))).versions)


def closed(outage: Outage, name: str) -> list[str]:
    """What was not refused in a cluster whose control plane was down; what it accepted before is the control."""
    before, during = outage.before[name], outage.during[name]
    problems = [] if before.pod.verdict is Verdict.ACCEPTED else [f"before the outage a pod was {before.pod}"]
    if not during.pod.by_webhook:
        problems.append(f"a new pod was {during.pod}")
    if outage.pods_during.get(name):
        problems.append(f"the Deployment has pods: {', '.join(outage.pods_during[name])}")
    if before.guarded:
        problems += (
            [] if before.good_config.verdict is Verdict.ACCEPTED else [f"before, a rule was {before.good_config}"]
        )
        problems += [] if before.bad_config.verdict is Verdict.REFUSED else ["before, a senseless rule was accepted"]
        problems += [] if during.good_config.by_webhook else [f"a configuration write was {during.good_config}"]
    elif name == outage.victim.name:
        problems.append("its validation webhook does not fail closed (failurePolicy is not Fail)")
    return problems


def still_open(outage: Outage, name: str) -> list[str]:
    """What was refused in a cluster with another control plane, and should not have been."""
    during = outage.during[name]
    problems = [] if during.pod.verdict is Verdict.ACCEPTED else [f"a new pod was {during.pod}"]
    problems += [] if during.good_config.verdict is Verdict.ACCEPTED else [f"a rule was {during.good_config}"]
    return problems + ([] if during.bad_config.verdict is Verdict.REFUSED else ["a senseless rule was accepted"])
