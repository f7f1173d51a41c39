"""Access log entries of proxies about failed requests for the application, with the reasons."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken
from meshproof.core.names import PROXY
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot

LINES: Final = 500
"""Number of lines read from the end of each log."""
MOST_ENTRIES: Final = 40

_FORMAT: Final = re.compile(
    r'\[(?P<at>[^\]]+)\] "[^"]*" (?P<status>\d+) (?P<flags>\S+) (?P<details>\S+) \S+ "(?P<tls>[^"]*)"'
    r'(?: \S+){4} "[^"]*" "[^"]*" "[^"]*" "[^"]*" "(?P<host>[^"]*)" (?P<cluster>\S+)'
)
"""The beginning of Istio's default format (istio.io, Envoy access logs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry: `at` is when the request began, in seconds since 1970, 0 if the log has another format."""

    text: str
    at: float = 0.0
    summary: str = ""

    def __str__(self) -> str:
        return self.summary or self.text


def current_proxies(mesh: Mesh) -> list[tuple[Cluster, PodFacts]]:
    """All proxies that exist now; none if they cannot be read."""
    try:
        return [(facts.cluster, pod) for facts in Snapshot.take(mesh).facts for pod in facts.proxies]
    except Broken:
        return []


def proxy_errors(proxies: Iterable[tuple[Cluster, PodFacts]]) -> dict[str, list[LogEntry]]:
    """The last access log entries about the application, by proxy (`cluster namespace/pod`).

    Empty without an access log, or if it may not be read. Raises nothing, since it runs after failures.
    """
    wanted = list(proxies)
    logs = together(_entries, wanted)
    return {f"{cluster} {pod}": found for (cluster, pod), found in zip(wanted, logs, strict=True) if found}


def _entries(proxy: tuple[Cluster, PodFacts]) -> list[LogEntry]:
    cluster, pod = proxy
    try:
        text = cluster.kube.logs(pod.namespace, pod.name, container=PROXY, tail_lines=LINES)
    except Broken:  # no right to read logs, or a pod that was just deleted
        return []
    return [parse_entry(line) for line in text.splitlines() if is_entry(line)][-MOST_ENTRIES:]


def is_entry(line: str) -> bool:
    """Whether a line is an access log entry (it begins with a time in brackets) about the application, whose name is
    in all of its hosts. Other requests must not be reported."""
    return line.startswith("[") and '"' in line and names.APP_SERVICE in line


def parse_entry(line: str) -> LogEntry:
    """Response code, flags and details, and the Envoy cluster and host that the request was sent to."""
    found = _FORMAT.match(line)
    if found is None:
        return LogEntry(text=line)
    try:
        at = datetime.fromisoformat(found["at"]).timestamp()
    except ValueError:
        return LogEntry(text=line)
    tls = f" ({found['tls']})" if found["tls"].strip("-") else ""
    summary = f"{found['status']} {found['flags']} {found['details']}{tls}, {found['cluster']} at {found['host']}"
    return LogEntry(text=line, at=at, summary=summary)
