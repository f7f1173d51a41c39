"""The two families of exceptions: the mesh is wrong (`ClaimFailed`), or we or the environment are (`Broken`)."""

from __future__ import annotations


class MeshproofError(Exception):
    """Root of everything that meshproof raises on purpose."""


class ClaimFailed(MeshproofError, AssertionError):
    """What a claim says does not hold: the mesh is wrong. Its text is what the user reads."""


class Broken(MeshproofError):
    """Our tool or its environment failed, so nothing can be said about the mesh.

    `what` names the thing that failed, `reason` says why, `repair` what to do about it.
    """

    def __init__(self, what: str, reason: str, repair: str = "") -> None:
        self.what = what
        self.reason = reason
        self.repair = repair
        super().__init__(what, reason, repair)

    def __str__(self) -> str:
        text = f"{self.what}: {self.reason}"
        return f"{text}\n  repair: {self.repair}" if self.repair else text


class BadInput(Broken):
    """A value that the user gave is wrong; nothing was started. pytest exits with 4, the command line with 2."""


class NotReady(Broken):
    """Something that we wait for did not come in time, or reached a state from which it never will."""


class Aborted(Broken):
    """A step of a plan gave up since another one had failed."""


class Unavailable(Broken):
    """This machine or provider cannot do what was asked; the claim that needs it is skipped with this text."""
