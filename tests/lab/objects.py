"""Everything that an API server holds, in a form in which two moments can be compared: who wrote to what?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from meshproof.clients.kubernetes.client import ApiError, Json, Kube
from meshproof.core.concurrency import together

Key = tuple[str, str, str]
"""Resource, namespace, name."""

LIVING = {"events", "leases", "endpoints", "endpointslices", "componentstatuses"}
"""What Kubernetes writes all the time."""
RUNNING = {"pods", "nodes", "deployments", "replicasets", "daemonsets", "horizontalpodautoscalers", "apiservices"}
"""Kinds of which controllers write the status whenever something starts, stops or is slow."""
ELECTION = "control-plane.alpha.kubernetes.io/leader"
"""Annotation of ConfigMaps by which replicas of istiod choose who leads: renewed all the time."""


def everything(kube: Kube) -> dict[Key, str]:
    """Every object of every kind, with all that tells that somebody has written to it.

    Of what controllers report on all the time, the status does not count; there the generation tells of writes.
    """
    resources = list(_resources(kube))
    found = together(lambda item: _objects(kube, *item), resources)
    return {key: facts for objects in found for key, facts in objects.items()}


def _resources(kube: Kube) -> Iterator[tuple[str, str]]:
    """Path and plural of each resource that can be listed, in its group's preferred version."""
    groups = kube.get("/apis")["groups"]
    for path in ("/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)):
        for resource in kube.get(path)["resources"]:
            if "list" in resource["verbs"] and resource["name"] not in LIVING:
                yield f"{path}/{resource['name']}", resource["name"]


def _objects(kube: Kube, path: str, plural: str) -> dict[Key, str]:
    try:
        items = kube.get(path)["items"]
    except ApiError as problem:
        if problem.status in (404, 405):
            return {}
        raise
    return {(plural, i["metadata"].get("namespace", ""), i["metadata"]["name"]): _facts(plural, i) for i in items}


def _facts(plural: str, item: Json) -> str:
    meta = item["metadata"]
    if ELECTION in (meta.get("annotations") or {}):
        return str(meta["uid"])
    kept = {key: value for key, value in item.items() if key not in ("metadata", "status")}
    kept["metadata"] = {key: value for key, value in meta.items() if key not in ("resourceVersion", "managedFields")}
    kept["written"] = [m for m in meta.get("managedFields") or [] if m.get("subresource") != "status"]
    if plural not in RUNNING:
        kept["resourceVersion"] = meta["resourceVersion"]  # shows even what was written and taken back
    return json.dumps(kept, sort_keys=True)


def differences(before: Mapping[Key, str], after: Mapping[Key, str]) -> list[str]:
    """What was made, removed or written to between two moments."""
    told = [f"made {' '.join(key)}" for key in sorted(after.keys() - before.keys())]
    told += [f"removed {' '.join(key)}" for key in sorted(before.keys() - after.keys())]
    changed = [key for key in sorted(before.keys() & after.keys()) if before[key] != after[key]]
    # Not the content: it may be a secret.
    return told + [f"wrote to {' '.join(key)}: {', '.join(_parts(before[key], after[key]))}" for key in changed]


def _parts(one: str, other: str) -> list[str]:
    if not (one.startswith("{") and other.startswith("{")):
        return ["uid"]
    old, new = json.loads(one), json.loads(other)
    return [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
