"""The secret with which probe pods pull their images, where a registry asks who pulls."""

from __future__ import annotations

from meshproof.clients.kubernetes.manifests import core, metadata, pulls_with
from meshproof.mesh.handles import Cluster

ACCOUNT = "default"


def give_pull_secret(cluster: Cluster, namespace: str) -> None:
    """Copy it into a namespace of ours, and have pods of the default account pull with it, if one was named."""
    wanted = cluster.access.pull_secret
    if wanted is None:
        return
    found = cluster.kube.find("Secret", wanted.name, wanted.namespace) or {}
    copy = core("Secret", metadata(wanted.name, namespace), data=found.get("data") or {})
    cluster.kube.apply(copy | {"type": found.get("type", "Opaque")})
    cluster.kube.apply(core("ServiceAccount", metadata(ACCOUNT, namespace), **pulls_with(wanted)))
