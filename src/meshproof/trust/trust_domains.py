"""Whether control planes accept each other's trust domains."""

from __future__ import annotations

from collections.abc import Mapping

from meshproof.clients.istio.istiod_debug import TrustDomains


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
