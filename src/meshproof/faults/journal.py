"""Fault journal: every fault is on disk before it is injected, so that the next run can heal after a killed one."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from meshproof.core.errors import Broken
from meshproof.core.paths import state_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change of a fault.

    `cluster_uid` identifies the cluster, since names are reused; `undo` reverts the change.
    """

    key: str
    fault: str
    cluster: str
    cluster_uid: str
    undo: Mapping[str, Any]


def default_journal() -> Journal:
    """The journal of this user on this machine, shared by all labs."""
    return Journal(state_root() / "fault-journal.jsonl")


class Journal:
    """JSON lines in one file: a line per fault before it is injected, and a line when it is healed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, *, fault: str, cluster: str, cluster_uid: str, undo: Mapping[str, Any]) -> Entry:
        """Append an entry and sync it to disk. Raises `Broken` if it cannot be written."""
        entry = Entry(key=uuid.uuid4().hex, fault=fault, cluster=cluster, cluster_uid=cluster_uid, undo=undo)
        self._append(
            {
                "key": entry.key,
                "injected": datetime.now(UTC).isoformat(timespec="seconds"),
                "fault": fault,
                "cluster": cluster,
                "cluster_uid": cluster_uid,
                "undo": dict(undo),
            }
        )
        return entry

    def healed(self, entry: Entry) -> None:
        self._append({"key": entry.key, "healed": datetime.now(UTC).isoformat(timespec="seconds")})

    def unhealed(self) -> tuple[Entry, ...]:
        """Unhealed entries, newest first. A last line that a crash truncated is ignored."""
        try:
            lines = self.path.read_text().splitlines()
        except FileNotFoundError:
            return ()
        unhealed: dict[str, Entry] = {}
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                key = row["key"]
                if "healed" in row:
                    unhealed.pop(key, None)
                    continue
                unhealed[key] = Entry(
                    key=key,
                    fault=row["fault"],
                    cluster=row["cluster"],
                    cluster_uid=row["cluster_uid"],
                    undo=MappingProxyType(row["undo"]),
                )
            except (ValueError, KeyError, TypeError):
                if number < len(lines):
                    raise Broken(
                        f"{self.path}:{number}", "this is not a line of a fault journal", "repair or delete the line"
                    ) from None
        return tuple(reversed(unhealed.values()))

    def _append(self, row: Mapping[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(self._tail_repair(file.fileno()) + json.dumps(row).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise Broken(
                f"fault journal {self.path}",
                f"it cannot be written: {problem.strerror}",
                "no fault was injected; make the file writable or free disk space",
            ) from problem

    @staticmethod
    def _tail_repair(descriptor: int) -> bytes:
        """A line break, if a crash left a truncated line at the end."""
        size = os.fstat(descriptor).st_size
        return b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""
