"""How a fault shows: checks that raise `NotYet` until it does. The sensitivity run begins only then."""

from __future__ import annotations

import time
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import ClaimFailed
from meshproof.core.waiting import NotYet
from meshproof.faults.editor import Prevented, Scene
from meshproof.health.mesh import ills

REPAIR_S: Final = 3.0
"""How long a changed object must stay changed: istiod puts its own objects back within a second."""


def mesh_is_ill(scene: Scene) -> None:
    """A quick look at the mesh finds something wrong."""
    try:
        found = ills(scene.mesh)
    except ClaimFailed:
        return
    if not found:
        raise NotYet("a quick look finds nothing wrong: endpoints, requests, ports, injection, sync")


def stays(scene: Scene) -> None:
    """What the fault changed last stays changed. Raises `Prevented` if somebody puts it right."""
    cluster, kind, name, namespace, wrong = scene.last_change
    begin = time.monotonic()
    while (left := begin + REPAIR_S - time.monotonic()) > 0:
        found = cluster.kube.find(kind, name, namespace)
        if found is None or essence(found) != essence(wrong):
            took = time.monotonic() - begin
            raise Prevented(f"{kind} {name} on {cluster} was put right by the control plane within {took:.1f} s")
        for _ in cluster.kube.changes_of(kind, name, namespace, found, timeout_s=max(left, 1.0)):
            break


def essence(thing: Json) -> Json:
    """An object without what changes by itself."""
    return {key: value for key, value in thing.items() if key not in ("metadata", "status", "apiVersion", "kind")}
