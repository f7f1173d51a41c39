"""The result of one HTTP request, and error texts of probes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import requests

VERSION_HEADER: Final = "x-app-version"
"""Identifies the server: the application sends its version, a probe of the test bed its cluster."""
PROTOCOL_HEADER: Final = "x-meshproof-protocol"
"""The protocol in which the request reached the probe service, behind all proxies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """One request. `status` 0 means that there was no response, and `error` why; `version` is the app's header."""

    status: int
    version: str
    seconds: float
    error: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300 and not self.error

    @property
    def outcome(self) -> str:
        """For tables: the server's version, or the error."""
        if self.ok:
            return self.version or f"a response without {VERSION_HEADER}"
        return f"HTTP {self.status}" if self.status else self.error or "no response"


def bracketed(address: str) -> str:
    """An address for a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def curl_problem(code: int, message: str) -> str:
    """Why curl failed: its message, or its exit code. Empty if it succeeded."""
    return (message.strip() or f"curl exit code {code}") if code else ""


_CONNECTING: Final = "Failed to establish a new connection: "
_ADDRESS_IN_MEMORY: Final = re.compile(r"<[^<>]* at 0x[0-9a-f]+>:? ?")


def words(problem: BaseException) -> str:
    """A normalized text of an exception, so that equal failures can be counted together."""
    if isinstance(problem, requests.RequestException) and problem.args:
        # The reason only: requests adds the URL and the number of retries (none).
        problem = getattr(problem.args[0], "reason", problem.args[0])
    text = _ADDRESS_IN_MEMORY.sub("", str(problem)).rpartition(_CONNECTING)[2] or type(problem).__name__
    if isinstance(problem, TimeoutError) or "timed out" in text:
        return "timed out"
    if "Connection refused" in text:
        return "connection refused"
    if "EOF occurred" in text or "Remote end closed" in text:  # the latter is a ConnectionResetError to http.client
        return "connection closed"
    if "reset by peer" in text or isinstance(problem, ConnectionResetError):
        return "connection reset"
    return " ".join(text.split())[:200]
