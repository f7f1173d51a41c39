"""Whether Istio's validation webhooks reject invalid configuration, and nothing else."""

from __future__ import annotations

from meshproof.probes.admission import ConfigAdmission, DryRun


def admission_problems(seen: ConfigAdmission) -> list[str]:
    """What is wrong with a cluster's replies to a valid and an invalid object."""
    dead = [f"{hook} points at {service}, which has no ready endpoint" for hook, service in seen.dead.items()]
    problems = [] if seen.guarded else ["no validation webhook of Istio is set to fail closed (failurePolicy Fail)"]
    if seen.good.verdict is not DryRun.ACCEPTED:
        problems.append(f"a valid object is {seen.good}")
    if seen.bad.verdict is DryRun.ACCEPTED:
        problems.append("a DestinationRule with a negative number of connections is accepted")
    elif seen.bad.by_webhook:
        problems.append("an invalid object was not validated: the webhook could not be called")
    return dead + problems
