"""Whether Istio's validation webhooks reject invalid configuration, and nothing else."""

from __future__ import annotations

import json

from meshproof.core import names
from meshproof.discovery.naming import INJECTOR_MAP
from meshproof.mesh.handles import Cluster
from meshproof.probes.admission import ConfigAdmission, DryRun


def not_validated(cluster: Cluster) -> str:
    """Why Istio's configuration is not validated on purpose; empty if it is. The chart's values are in the injector's
    ConfigMap."""
    name = names.of_revision(INJECTOR_MAP, cluster.spec.revision)
    found = cluster.kube.find("ConfigMap", name, names.SYSTEM_NAMESPACE) or {}
    return validation_off((found.get("data") or {}).get("values") or "{}")


def validation_off(values: str) -> str:
    """From the text of the values."""
    try:
        on = (json.loads(values).get("global") or {}).get("configValidation")
    except (ValueError, AttributeError):
        return ""
    return "validation is turned off (values.global.configValidation is false)" if on is False else ""


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
