"""A legal mesh that differs from ours, as a record: what differs, why that is legal, and what it keeps from being
proven."""

from __future__ import annotations

from dataclasses import dataclass

from meshproof.claims.claim import Need
from meshproof.core.model import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Claims that a variant legitimately keeps from being proven, and the words that their reason must have: those that
    name the setting."""

    codes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalMesh:
    """`sentence` states the difference, `legal` is where Istio or Kubernetes documents it. `skips` are the claims that
    cannot be proven on it. `still_kills` are faults that must be detected on top of it: those that a suite which
    tolerates it too generously would miss."""

    id: str
    sentence: str
    legal: str
    needs: tuple[Need, ...] = ()
    skips: tuple[Skip, ...] = ()
    still_kills: tuple[str, ...] = ()

    def not_here(self, topology: Topology) -> str | None:
        """Why it does not apply to this topology, or None."""
        return next((need.otherwise for need in self.needs if not need.applies(topology)), None)

    def reason_to_skip(self, code: str) -> str | None:
        """What the reason must say if this claim is skipped; None if it must not be skipped."""
        return next((skip.reason for skip in self.skips if code in skip.codes), None)
