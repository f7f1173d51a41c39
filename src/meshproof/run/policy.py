"""What a run was told of claims: which it is asked for at all, and what they may do on clusters that are not ours."""

from __future__ import annotations

from meshproof.claims.claim import Claim
from meshproof.core.errors import Unavailable
from meshproof.run.settings import ALLOW_CREDENTIALS, ALLOW_DISRUPTIVE, UPGRADE_TO, Settings


def unasked(claim: Claim, settings: Settings) -> str | None:
    """Why nothing asks for a claim that says nothing without an option; None if it is asked for."""
    return f"no {claim.option}" if claim.option == UPGRADE_TO.flag and not settings.upgrade_to else None


def withheld(claim: Claim, settings: Settings) -> Unavailable | None:
    """Why the user has not allowed the proof of a claim, with the option that would; None if it may be tried."""
    if claim.disruptive and not settings.may_disrupt:
        return Unavailable(
            f"breaking clusters that meshproof did not make, as {claim.code} must",
            "it was not allowed",
            ALLOW_DISRUPTIVE.flag,
        )
    if claim.credentials and not settings.may_make_credentials:
        return Unavailable(
            f"{claim.credentials}, on clusters that meshproof did not make",
            "it was not allowed",
            ALLOW_CREDENTIALS.flag,
        )
    return None
