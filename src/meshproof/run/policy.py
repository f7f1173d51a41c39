"""Which claims a run includes, and what they may do on existing clusters."""

from __future__ import annotations

from meshproof.claims.claim import Claim
from meshproof.claims.results import WITHHELD
from meshproof.core.errors import Unavailable
from meshproof.run.settings import ALLOW_CREDENTIALS, ALLOW_DISRUPTIVE, UPGRADE_TO, Settings


def unasked(claim: Claim, settings: Settings) -> str | None:
    """Why a claim that needs an option is not part of the run; None if it is."""
    return f"no {claim.option}" if claim.option == UPGRADE_TO.flag and not settings.upgrade_to else None


def withheld(claim: Claim, settings: Settings) -> Unavailable | None:
    """The error for a claim that the user has not allowed, naming the option; None if it may run."""
    if claim.disruptive and not settings.may_disrupt:
        return Unavailable(
            "breaking clusters that meshproof did not create",
            WITHHELD,
            ALLOW_DISRUPTIVE.flag,
        )
    if claim.credentials and not settings.may_make_credentials:
        return Unavailable(
            f"{claim.credentials}, on clusters that meshproof did not create",
            WITHHELD,
            ALLOW_CREDENTIALS.flag,
        )
    return None
