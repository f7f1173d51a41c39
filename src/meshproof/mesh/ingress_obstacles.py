"""Why an ingress gateway does not serve our requests, though nothing is wrong with it: settings of its owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json, Kube
from meshproof.core import names
from meshproof.mesh.go_booleans import is_false, is_true
from meshproof.mesh.ingress_policies import rejecting_policies
from meshproof.mesh.objects import PodFacts, ServiceFacts

OWN_NAMESPACE_ONLY: Final = "PILOT_SCOPE_GATEWAY_TO_NAMESPACE"
STRICT_MERGING: Final = "PILOT_ENABLE_STRICT_GATEWAY_MERGING"
"""Switches of istiod (pilot/pkg/features). The second is on by default since 1.31."""
MANAGED: Final = "gateway.istio.io/managed"
"""Label of pods that istiod creates for a Gateway API Gateway (kube-gateway.yaml)."""


def obstacle(
    service: ServiceFacts | None,
    pods: Sequence[PodFacts],
    istiod_envs: Sequence[Mapping[str, str]],
    policies: Sequence[Json],
    root: str,
    primary: str,
) -> str:
    """Why our requests cannot pass the gateway behind this Service; empty if they can.

    `istiod_envs`, `policies` and the `root` namespace are those of the primary that configures it.
    """
    if any(is_true(env.get(OWN_NAMESPACE_ONLY, "")) for env in istiod_envs):
        return f"istiod of {primary} limits gateways to Gateways of their own namespace ({OWN_NAMESPACE_ONLY})"
    managed = any(MANAGED in pod.labels for pod in pods)
    if managed and not all(is_false(env.get(STRICT_MERGING, "")) for env in istiod_envs):
        return f"it was created by the Gateway API, and ignores Gateways of other namespaces ({STRICT_MERGING})"
    if service is not None and names.PORT_INGRESS not in service.port_numbers:
        return f"Service {service} has no port {names.PORT_INGRESS}"
    found = (rejecting_policies(policies, {pod.namespace, root}, pod.labels) for pod in pods)
    rejecting = dict.fromkeys(place for each in found for place in each)
    return f"requests without credentials are rejected by {', '.join(rejecting)}" if rejecting else ""


def authorization_policies(kube: Kube) -> tuple[Json, ...]:
    """All AuthorizationPolicies of a config cluster; none without the CRD, or without the right to list them."""
    try:
        return tuple(kube.list("AuthorizationPolicy"))
    except ApiError as problem:
        if problem.status not in (404, FORBIDDEN):
            raise
        return ()
