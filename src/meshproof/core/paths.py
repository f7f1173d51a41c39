"""Where the lab keeps things, and why root may execute what lies there: only its owner can write to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from meshproof.core.errors import BadInput

CACHE_VARIABLE = "MESHPROOF_CACHE"
STATE_VARIABLE = "MESHPROOF_STATE"


def cache_root() -> Path:
    """Built programs and images: `$MESHPROOF_CACHE`, else `$XDG_CACHE_HOME/meshproof`, else `~/.cache/meshproof`."""
    return _root(CACHE_VARIABLE, "XDG_CACHE_HOME", ".cache")


def state_root() -> Path:
    """Running labs: `$MESHPROOF_STATE`, else `$XDG_STATE_HOME/meshproof`, else `~/.local/state/meshproof`."""
    return _root(STATE_VARIABLE, "XDG_STATE_HOME", ".local/state")


def _root(own: str, xdg: str, fallback: str) -> Path:
    chosen = os.environ.get(own)
    path = Path(chosen) if chosen else Path(os.environ.get(xdg) or Path.home() / fallback) / "meshproof"
    return private_folder(path.absolute())


def private_folder(path: Path) -> Path:
    """Make `path` (mode 0700) or check it. Raises `BadInput` if it is not ours or others can write to it or above it.

    A root process runs the programs below it, so another user's write access would be that user's root access.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise BadInput(f"folder {path}", f"cannot be made: {problem.strerror}", "name another one") from problem
    refuse_if_writable_by_others(path)
    return path


def refuse_if_writable_by_others(path: Path) -> None:
    """Raise `BadInput` unless `path` and every folder above it can be written only by us or by root."""
    resolved = path.resolve()
    for place in (resolved, *resolved.parents):
        facts = place.stat()
        ours = facts.st_uid in (os.geteuid(), 0)
        # A sticky folder such as /tmp lets others add names but not replace ours.
        open_to_others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (
            facts.st_mode & stat.S_ISVTX and place != resolved
        )
        if not ours:
            raise BadInput(
                f"folder {path}",
                f"{place} belongs to user {facts.st_uid}, and a root process would execute what lies there",
                f"chown it to user {os.geteuid()}, or choose other folders with {CACHE_VARIABLE} and {STATE_VARIABLE}",
            )
        if open_to_others:
            raise BadInput(
                f"folder {path}",
                f"{place} can be written by others (mode {stat.filemode(facts.st_mode)})",
                f"chmod go-w {place}, or choose other folders with {CACHE_VARIABLE} and {STATE_VARIABLE}",
            )
