"""Data model of a topology diagram."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from meshproof.claims.results import Result
from meshproof.core.model import ClusterName, NetworkName, Role


class Kind(StrEnum):
    """An arrow's meaning, in order from the bottom up; `CLUSTER` is not an arrow, but each cluster's box."""

    CLUSTER = "cluster"
    TRUST = "trust"
    DISCOVERY = "discovery"
    CONTROL = "control"
    GATEWAY = "gateway"
    DIRECT = "direct"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A box in a cluster with its title and facts. `missing`: it should exist, but does not."""

    title: str
    lines: tuple[str, ...] = ()
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPicture:
    """One cluster. `istiod` is present in remotes too, as "no istiod"; `gateway` is the east-west gateway."""

    name: ClusterName
    role: Role
    network: NetworkName
    kubernetes: str = ""
    trust: Part
    api_server: Part
    istiod: Part
    gateway: Part | None
    app: Part
    clients: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An arrow from one cluster to another, or within one.

    A `CONTROL` arrow with ports is proxies' connections through the gateway of `target`; one without is istiod's
    control over `target`.
    """

    kind: Kind
    source: ClusterName
    target: ClusterName
    caption: str
    ports: tuple[int, ...] = ()

    @property
    def is_own(self) -> bool:
        """Within one cluster."""
        return self.source == self.target

    @property
    def label(self) -> str:
        return " ".join(str(port) for port in self.ports) or self.caption


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A claim and its result, None if there is none yet. `text` is its sentence, or the reason of its result."""

    code: str
    result: Result | None = None
    text: str = ""

    @property
    def is_bad(self) -> bool:
        return self.result is not None and not self.result.good


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A topology. Clusters are in the order in which they are drawn: those of one network side by side."""

    name: str
    title: str
    about: tuple[str, ...]
    clusters: tuple[ClusterPicture, ...]
    links: tuple[Link, ...]
    proofs: tuple[Proof, ...] = ()

    def place(self, name: ClusterName) -> int:
        """The column of a cluster, from the left."""
        return next(place for place, cluster in enumerate(self.clusters) if cluster.name == name)

    def links_of(self, *kinds: Kind) -> Iterator[Link]:
        return (link for link in self.links if link.kind in kinds)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of arrows that are drawn."""
        return tuple(kind for kind in Kind if kind is Kind.CLUSTER or any(self.links_of(kind)))

    @property
    def has_results(self) -> bool:
        """Whether any claim has a result."""
        return any(proof.result is not None for proof in self.proofs)
