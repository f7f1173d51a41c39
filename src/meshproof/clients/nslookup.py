"""DNS lookups by `nslookup` in a container."""

from __future__ import annotations

import re

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import Broken


def nslookup(kube: Kube, namespace: str, pod: str, container: str, name: str) -> tuple[str, ...]:
    """The addresses that a container resolves a fully qualified name to; empty if there are none."""
    answer = kube.exec(namespace, pod, ["nslookup", f"{name}."], container=container)
    if "not found" in answer.stderr:
        raise Broken(
            f"nslookup in {namespace}/{pod} on {kube.name}", answer.stderr.strip()[-200:], "use an image with nslookup"
        )
    return parse_nslookup(answer.stdout)


def parse_nslookup(text: str) -> tuple[str, ...]:
    """The addresses behind the first `Name:`; the lines before are about the server (BusyBox, ISC)."""
    _, _, answers = text.partition("\nName:")
    found = re.findall(r"^Address(?: \d+)?:\s*(\S+)", answers, re.MULTILINE)
    return tuple(sorted(set(found)))
