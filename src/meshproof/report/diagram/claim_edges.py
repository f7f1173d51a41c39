"""Which claim belongs on which arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from meshproof.claims.claim import Family
from meshproof.claims.results import Result
from meshproof.report.diagram.model import Kind, Picture, Proof

HEADLINES: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.CLUSTER: "in each cluster",
        Kind.TRUST: "trust: one root, clients outside the mesh refused",
        Kind.DISCOVERY: "discovery: every istiod reads every API server",
        Kind.CONTROL: "control: configuration, certificates, injection",
        Kind.GATEWAY: "data path across networks, through 15443",
        Kind.DIRECT: "data path on one network, from pod to pod",
        Kind.REQUESTS: "requests: all versions answer, evenly",
    }
)

BY_FAMILY: Final[Mapping[Family, tuple[Kind, ...]]] = MappingProxyType(
    {
        Family.TRUST: (Kind.TRUST,),
        Family.DISCOVERY: (Kind.DISCOVERY,),
        Family.GATEWAYS: (Kind.GATEWAY,),
        Family.CONTROL: (Kind.CONTROL,),
        Family.TRAFFIC: (Kind.GATEWAY, Kind.DIRECT),
        Family.UPGRADE: (Kind.CLUSTER,),
    }
)
"""The arrows of claims not listed below. FAILOVER concerns the whole mesh and is shown separately."""

BY_CODE: Final[Mapping[str, tuple[Kind, ...]]] = MappingProxyType(
    {
        "TRUST-01": (Kind.CLUSTER,),  # cacerts of each cluster, offline
        "TRUST-03": (Kind.CONTROL,),  # istiod signs for those that it controls
        "TRUST-04": (Kind.CLUSTER,),
        "TRUST-08": (Kind.CLUSTER,),  # clocks
        "TRUST-09": (Kind.CONTROL,),  # istiod's own certificate, where proxies dial it
        "DISCOVERY-05": (Kind.CONTROL,),  # proxies in sync with their istiod
        "DISCOVERY-06": (Kind.CLUSTER,),
        "DISCOVERY-07": (Kind.CLUSTER,),
        "DISCOVERY-08": (Kind.CLUSTER,),  # hosts that stay in their cluster
        "GATEWAYS-01": (Kind.GATEWAY, Kind.CONTROL),  # whichever ports the topology needs
        "GATEWAYS-04": (Kind.CONTROL,),  # 15012
        "GATEWAYS-05": (Kind.CONTROL,),  # 15017
        "GATEWAYS-06": (Kind.CLUSTER,),  # nothing else is exposed
        "GATEWAYS-07": (Kind.DISCOVERY,),  # what istiod knows of gateways
        "GATEWAYS-08": (Kind.GATEWAY, Kind.DIRECT),
        "CONTROL-04": (Kind.CLUSTER,),  # configuration in a remote
        "CONTROL-05": (Kind.CLUSTER,),
        "CONTROL-06": (Kind.CLUSTER,),
        "CONTROL-07": (Kind.CLUSTER,),
        "TRAFFIC-01": (Kind.REQUESTS,),
        "TRAFFIC-02": (Kind.REQUESTS,),
        "TRAFFIC-03": (Kind.REQUESTS,),
        "TRAFFIC-04": (Kind.REQUESTS,),
        "TRAFFIC-08": (Kind.REQUESTS,),
    }
)


def places_of(code: str) -> tuple[Kind, ...]:
    """The arrows of a claim; empty for claims about the whole mesh, and for unknown families."""
    family = code.partition("-")[0]
    return BY_CODE.get(code) or (BY_FAMILY.get(Family(family), ()) if family in tuple(Family) else ())


def proofs_on(picture: Picture, kind: Kind) -> tuple[Proof, ...]:
    """The applicable claims on arrows of this kind."""
    return tuple(p for p in picture.proofs if p.result is not Result.NOT_APPLICABLE and kind in places_of(p.code))


def proofs_elsewhere(picture: Picture) -> tuple[Proof, ...]:
    """The applicable claims that belong on no drawn arrow, such as FAILOVER."""
    drawn = set(picture.kinds)
    return tuple(
        p for p in picture.proofs if p.result is not Result.NOT_APPLICABLE and drawn.isdisjoint(places_of(p.code))
    )


class State(StrEnum):
    """How an arrow is drawn."""

    PLANNED = "planned"
    UNPROVEN = "unproven"
    PROVEN = "proven"
    BROKEN = "broken"
    FAILED = "failed"


def state_of(picture: Picture, proofs: Iterable[Proof]) -> State:
    """FAILED takes precedence over BROKEN, and a success over SKIPPED."""
    results = {proof.result for proof in proofs}
    for result, state in (
        (Result.FAILED, State.FAILED),
        (Result.BROKEN, State.BROKEN),
        (Result.SUCCEEDED, State.PROVEN),
    ):
        if result in results:
            return state
    return State.UNPROVEN if picture.has_results else State.PLANNED
