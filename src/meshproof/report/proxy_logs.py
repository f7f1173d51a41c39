"""What proxies have logged of requests for the application that ended badly: who saw it knows the reason."""

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
"""Of the end of each log."""
MOST_TOLD: Final = 40


def proxy_errors(mesh: Mesh) -> dict[str, list[str]]:
    """By proxy (`cluster namespace/pod`) the last lines of its access log that name the application.

    Empty where no access log is kept, or it may not be read. Raises nothing: it is asked for when all has gone wrong.
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
    except Broken:  # no right to read logs, or a pod that has just gone
        return []
    return [line for line in text.splitlines() if is_entry(line)][-MOST_TOLD:]


def is_entry(line: str) -> bool:
    """Whether it is a line of an access log, which begins with its time in brackets, about the application: its name is
    in all of its hosts. Other people's requests are nobody's business."""
    return line.startswith("[") and '"' in line and names.APP_SERVICE in line
