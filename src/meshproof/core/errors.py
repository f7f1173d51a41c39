"""The two families of exceptions: the mesh is wrong (`ClaimFailed`), or we or the environment are (`Broken`)."""

from __future__ import annotations


class MeshproofError(Exception):
    """Base of all exceptions that meshproof raises on purpose."""


class ClaimFailed(MeshproofError, AssertionError):
    """A claim does not hold: the mesh is wrong. Its text is what the user reads."""


class Broken(MeshproofError):
    """Our tool or its environment failed, so the claim has no result about the mesh.

    `what` names the thing that failed, `reason` is the cause, `repair` what to do about it.
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
    """Something did not become ready in time, or reached a state from which it never will."""


class Aborted(Broken):
    """A step of a plan was cancelled because another one had failed."""


class Unavailable(Broken):
    """This machine or provider lacks a capability; the claim that needs it is skipped with this text."""
