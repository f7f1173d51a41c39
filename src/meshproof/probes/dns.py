"""DNS lookups from client pods."""

from __future__ import annotations

import re

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import Broken
from meshproof.mesh.objects import PodFacts
from meshproof.probes.pod_script import exec_in_pod


def resolve_from_pod(kube: Kube, pod: PodFacts, name: str) -> tuple[str, ...]:
    """The addresses that a client pod resolves a fully qualified name to; empty if there are none."""
    answer = exec_in_pod(kube, pod, ["nslookup", f"{name}."])
    if "not found" in answer.stderr:
        raise Broken(f"nslookup in {pod} on {kube.name}", answer.stderr.strip()[-200:], "use an image with nslookup")
    return parse_nslookup(answer.stdout)


def parse_nslookup(text: str) -> tuple[str, ...]:
    """The addresses behind the first `Name:`; the lines before are about the server (BusyBox, ISC)."""
    _, _, answers = text.partition("\nName:")
    found = re.findall(r"^Address(?: \d+)?:\s*(\S+)", answers, re.MULTILINE)
    return tuple(sorted(set(found)))
