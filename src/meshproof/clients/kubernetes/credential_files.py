"""Folder for the certificates and keys of kubeconfigs, which TLS needs as files."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

PREFIX: Final = "meshproof-keys-"
_UNLOCKED: Final = "meshproof-keys.new-"


@cache
def key_folder() -> Path:
    """A private folder that is removed with this process. Removes those of killed processes.

    A folder's lock shows whether its process is alive: it is taken before the folder gets its name.
    """
    place = Path(tempfile.gettempdir())
    for folder in place.glob(f"{PREFIX}*"):
        _remove_abandoned(folder)
    made = Path(tempfile.mkdtemp(prefix=_UNLOCKED))
    _locked(made)
    folder = made.rename(place / made.name.replace(_UNLOCKED, PREFIX))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _locked(folder: Path) -> int | None:
    """A handle that holds the folder's lock while it is open; None if another process has it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_abandoned(folder: Path) -> None:
    try:
        handle = _locked(folder)
    except OSError:
        return  # removed meanwhile, or another user's
    if handle is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)
