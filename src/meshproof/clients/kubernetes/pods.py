"""Pod specs that strict policies of a cluster accept: resource limits, and Pod Security `restricted`.

Everything here is the same in every cluster; `meshproof.workloads.pod_settings` adds what depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshproof.clients.kubernetes.client import Json

RESOURCES: Final[Json] = {
    "requests": {"cpu": "10m", "memory": "32Mi"},
    "limits": {"cpu": "1", "memory": "512Mi"},
}
"""Small requests, so that a pod fits anywhere, and limits that no probe comes near (docs/attach.md): a throttled
client or server would look like a slow mesh."""

SECURITY: Final[Json] = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
"""What `restricted` asks of a container (Kubernetes, Pod Security Standards). The user is not part of it: OpenShift
assigns one, elsewhere `pod_settings` does."""

NOT_INJECTED: Final = {"sidecar.istio.io/inject": "false"}
"""Label of pods that must have no sidecar, even where namespaces are injected by default or by a label that
discovery needs."""


def contained(container: Json) -> Json:
    """The container with resources and a security context; its own settings take precedence."""
    return {"resources": RESOURCES, "securityContext": SECURITY, **container}


def pod_spec(containers: Sequence[Json], *, grace_s: int, **fields: object) -> Json:
    """A pod spec of such containers.

    The seccomp profile is the pod's, so that it holds for an injected sidecar, too.
    """
    return {
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [contained(container) for container in containers],
        **fields,
    }


SIDECAR: Final = {
    ("requests", "cpu"): ("sidecar.istio.io/proxyCPU", "100m"),
    ("requests", "memory"): ("sidecar.istio.io/proxyMemory", "128Mi"),
    ("limits", "cpu"): ("sidecar.istio.io/proxyCPULimit", "2"),
    ("limits", "memory"): ("sidecar.istio.io/proxyMemoryLimit", "1Gi"),
}
"""The pod annotation for each resource of the sidecar, and the value of Istio's default profile."""


def sidecar_annotations(resources: Json) -> dict[str, str]:
    """Annotations that complete the sidecar's resources; none where the mesh's own are complete.

    `resources` are the mesh's (`global.proxy.resources`). With one annotation the injection template ignores all of
    them (injection-template.yaml, `resources`), so they are repeated.
    """
    own = {key: (resources.get(key[0]) or {}).get(key[1]) for key in SIDECAR}
    if all(own.values()):
        return {}
    return {annotation: str(own[key] or default) for key, (annotation, default) in SIDECAR.items()}


def dry_run_pod(name: str, namespace: str, container: Json) -> Json:
    """A pod for dry runs only: nothing that a policy may ask for is missing, so a refusal is about injection."""
    meta = {"name": name, "namespace": namespace, "annotations": sidecar_annotations({})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec([container], grace_s=0)}
