"""Files and folders named by options: an unusable one ends the command before anything is started.

Every error is a `BadInput` with the option and its value, the reason, and the repair. Permissions are tested by
using them: even root cannot write to /proc, a read-only file system, or a full one.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from meshproof.core.errors import BadInput

NAME_FOLDER: Final = "name a writable folder"
NAME_OUTPUT: Final = "name a file in an existing folder"

_REASONS: Final = {
    errno.ENOENT: "no such file",
    errno.EISDIR: "is a folder, not a file",
    errno.ENOTDIR: "a parent folder is a file, not a folder",
    errno.EACCES: "permission denied",
}


@contextmanager
def usable(named: str, repair: str) -> Iterator[None]:
    """Turn an `OSError` in the block into a `BadInput` about the option `named`, for example `-o x.svg`."""
    try:
        yield
    except OSError as problem:
        raise BadInput(named, reason_of(problem), repair) from None


def reason_of(problem: OSError) -> str:
    return _REASONS.get(problem.errno or 0, problem.strerror or str(problem))


def read_text(named: str, path: Path, repair: str) -> str:
    """The text of a file, which may be a pipe."""
    with usable(named, repair):
        content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise BadInput(named, f"not UTF-8 at byte {problem.start}", "save the file as UTF-8") from None


def readable_file(named: str, path: Path, repair: str) -> Path:
    """A readable regular file, as an absolute path."""
    with usable(named, repair):
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(kind):
            raise BadInput(named, "is not a regular file", repair)
        with path.open("rb") as file:
            file.read(1)
    return path.absolute()


def program_file(named: str, path: Path, repair: str) -> Path:
    """An executable regular file, as an absolute path."""
    found = readable_file(named, path, repair)
    if not os.access(found, os.X_OK):
        raise BadInput(named, "is not executable", f"chmod +x {path}, or {repair}")
    return found


def writable_folder(named: str, path: Path) -> Path:
    """A writable folder, created if missing, as an absolute path."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise BadInput(named, "is a file, not a folder", NAME_FOLDER) from None
    except OSError as problem:
        raise BadInput(named, f"cannot be created: {problem.strerror}", NAME_FOLDER) from None
    try:
        with tempfile.TemporaryFile(dir=path) as trial:
            trial.write(b"-")
            trial.flush()
    except OSError as problem:
        raise BadInput(named, f"cannot be written to: {problem.strerror}", NAME_FOLDER) from None
    return path.absolute()


def writable_file(named: str, path: Path) -> Path:
    """Check that a file can be written without changing or leaving it. A device may still refuse later."""
    with usable(named, NAME_OUTPUT):
        if not path.absolute().parent.is_dir():
            raise BadInput(named, "no such folder", NAME_OUTPUT)
        there = path.exists()
        if there and not path.is_file() and not path.is_dir():
            return path  # opening a pipe would block until it has a reader
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    return path


def write_text(named: str, path: Path, text: str) -> None:
    """Write a file that `writable_file` has checked; the disk may be full by now."""
    with usable(named, NAME_OUTPUT):
        path.write_text(text, encoding="utf-8")


def print_text(text: str) -> None:
    """Print to standard output, which may be a full disk or a closed pipe."""
    try:
        with usable("standard output", "redirect it to a writable file"):
            sys.stdout.write(text)
            sys.stdout.flush()
    except BadInput:
        # What is left in the buffer would fail once more at the interpreter's end (docs.python.org, signal, SIGPIPE).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
