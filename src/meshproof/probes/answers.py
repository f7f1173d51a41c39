"""What became of one HTTP request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VERSION_HEADER: Final = "x-app-version"
"""Who answered: the application tells its version, a probe of the test bed its cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """One request. `status` 0 means that there was no answer, and `error` says why; `version` is the app's header."""

    status: int
    version: str
    seconds: float
    error: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300 and not self.error

    @property
    def outcome(self) -> str:
        """In a word, for tables: who answered, or what went wrong."""
        if self.ok:
            return self.version or f"an answer without {VERSION_HEADER}"
        return f"HTTP {self.status}" if self.status else self.error or "no answer"
