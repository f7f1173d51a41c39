"""Access log entries of proxies about failed requests for the application, with the reasons."""

from __future__ import annotations

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
MOST_TOLD: Final = 40


def proxy_errors(mesh: Mesh) -> dict[str, list[str]]:
    """The last access log entries about the application, by proxy (`cluster namespace/pod`).

    Empty without an access log, or if it may not be read. Raises nothing, since it runs after failures.
    """
    try:
        proxies = [(facts.cluster, pod) for facts in Snapshot.take(mesh).facts for pod in facts.proxies]
    except Broken:
        return {}
    logs = together(_lines, proxies)
    return {f"{cluster} {pod}": lines for (cluster, pod), lines in zip(proxies, logs, strict=True) if lines}


def _lines(proxy: tuple[Cluster, PodFacts]) -> list[str]:
    cluster, pod = proxy
    try:
        text = cluster.kube.logs(pod.namespace, pod.name, container=PROXY, tail_lines=LINES)
    except Broken:  # no right to read logs, or a pod that was just deleted
        return []
    return [line for line in text.splitlines() if is_entry(line)][-MOST_TOLD:]


def is_entry(line: str) -> bool:
    """Whether a line is an access log entry (it begins with a time in brackets) about the application, whose name is
    in all of its hosts. Other requests must not be reported."""
    return line.startswith("[") and '"' in line and names.APP_SERVICE in line
