"""Whether control planes accept each other's trust domains."""

from __future__ import annotations

from collections.abc import Mapping

from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.istio.istiod_debug import TrustDomains
from meshproof.core.concurrency import together
from meshproof.core.model import ClusterName
from meshproof.mesh.snapshot import Snapshot


def domain_problems(known: Mapping[str, TrustDomains], wanted: str) -> dict[str, list[str]]:
    """Per control plane which trust domains it rejects; it must accept `wanted`, the topology's, too."""
    result: dict[str, list[str]] = {}
    for who, mine in known.items():
        trusted = {mine.own, *mine.aliases}
        problems = [
            f"its trust domain is {mine}: it rejects {theirs.own} of {other}"
            for other, theirs in known.items()
            if other != who and theirs.own not in trusted
        ]
        if wanted not in trusted:
            problems.append(f"its trust domain is {mine}, the topology's is {wanted}")
        result[who] = problems
    return result


def domains_in_use(snapshot: Snapshot) -> dict[str, TrustDomains]:
    """The trust domains of every running istiod (`cluster pod`)."""
    replicas = [(facts.cluster, pod) for facts in snapshot.facts for pod in facts.istiods]
    answers = together(lambda item: istiod.trust_domains(item[0].kube, item[1].name), replicas)
    return {f"{cluster} {pod.name}": found for (cluster, pod), found in zip(replicas, answers, strict=True)}


def domain_of_each(snapshot: Snapshot) -> dict[ClusterName, str]:
    """The trust domain that the workloads of each cluster must have: that of their control plane if all control planes
    accept it (TRUST-07), else the topology's."""
    wanted = snapshot.mesh.topology.trust_domain
    known = domains_in_use(snapshot)
    agreed = not any(domain_problems(known, wanted).values())
    found = {}
    for cluster in snapshot.mesh.clusters:
        primary = snapshot.mesh.control_plane_of(cluster)
        own = {domains.own for who, domains in known.items() if who.partition(" ")[0] == primary.name}
        found[cluster.name] = own.pop() if agreed and len(own) == 1 else wanted
    return found
