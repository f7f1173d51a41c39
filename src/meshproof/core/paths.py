"""The lab's cache and state folders, which only their owner may write to, since root executes programs from them."""

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
    """Make `path` (mode 0700) or check it. Raises `BadInput` if another user owns it or others can write to it or to a
    parent.

    A root process runs programs from it, so write access for another user would be root access.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise BadInput(f"folder {path}", f"cannot be created: {problem.strerror}", "name another folder") from problem
    refuse_if_writable_by_others(path)
    return path


def refuse_if_writable_by_others(path: Path) -> None:
    """Raise `BadInput` unless only we or root can write to `path` and all its parents."""
    resolved = path.resolve()
    for place in (resolved, *resolved.parents):
        facts = place.stat()
        ours = facts.st_uid in (os.geteuid(), 0)
        # A sticky folder such as /tmp lets others add entries but not replace ours.
        open_to_others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (
            facts.st_mode & stat.S_ISVTX and place != resolved
        )
        if not ours:
            raise BadInput(
                f"folder {path}",
                f"{place} belongs to user {facts.st_uid}, and root executes programs from it",
                f"chown it to user {os.geteuid()}, or choose other folders with {CACHE_VARIABLE} and {STATE_VARIABLE}",
            )
        if open_to_others:
            raise BadInput(
                f"folder {path}",
                f"{place} is writable by others (mode {stat.filemode(facts.st_mode)})",
                f"chmod go-w {place}, or choose other folders with {CACHE_VARIABLE} and {STATE_VARIABLE}",
            )
