"""The rights that a run needs on existing clusters, and a check for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core.concurrency import together

READ: Final = ("get", "list", "watch")
PROBE: Final = (*READ, "create", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """Verbs on resources of one API group, in all namespaces, as in a ClusterRole."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]

    def as_rbac(self) -> Json:
        return {"apiGroups": [self.group], "resources": [*self.resources], "verbs": [*self.verbs]}


NEEDED: Final = (
    AccessRule(group="", resources=("namespaces", "services", "configmaps", "serviceaccounts", "pods"), verbs=PROBE),
    AccessRule(group="", resources=("pods",), verbs=("deletecollection",)),
    AccessRule(group="", resources=("pods/exec",), verbs=("get", "create")),
    AccessRule(group="apps", resources=("deployments",), verbs=PROBE),
    AccessRule(group="discovery.k8s.io", resources=("endpointslices",), verbs=("list", "create", "delete")),
    AccessRule(
        group="networking.istio.io",
        resources=("gateways", "virtualservices", "destinationrules"),
        verbs=("list", "create", "patch", "delete"),
    ),
    AccessRule(group="networking.istio.io", resources=("serviceentries", "sidecars", "envoyfilters"), verbs=("list",)),
    AccessRule(
        group="security.istio.io",
        resources=("peerauthentications", "authorizationpolicies"),
        verbs=("list", "create", "patch", "delete"),
    ),
    AccessRule(group="security.istio.io", resources=("requestauthentications",), verbs=("list",)),
    AccessRule(group="telemetry.istio.io", resources=("telemetries",), verbs=("list",)),
    AccessRule(
        group="admissionregistration.k8s.io",
        resources=("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
        verbs=("list",),
    ),
    AccessRule(group="apiextensions.k8s.io", resources=("customresourcedefinitions",), verbs=("list",)),
)
"""Without these a run cannot begin."""

FOR_DETECTION: Final = (
    AccessRule(group="", resources=("namespaces",), verbs=("get",)),
    AccessRule(group="", resources=("services", "configmaps"), verbs=("list",)),
    AccessRule(group="apps", resources=("deployments",), verbs=("list",)),
    AccessRule(group="discovery.k8s.io", resources=("endpointslices",), verbs=("list",)),
    AccessRule(group="admissionregistration.k8s.io", resources=("mutatingwebhookconfigurations",), verbs=("list",)),
)
"""Required by `meshproof detect`; a subset of `NEEDED`."""

FOR_UPGRADE_CHECK: Final = (
    AccessRule(group="rbac.authorization.k8s.io", resources=("clusterroles", "clusterrolebindings"), verbs=("list",)),
    AccessRule(
        group="gateway.networking.k8s.io",
        resources=("grpcroutes", "backendtlspolicies", "tlsroutes", "tcproutes"),
        verbs=("list",),
    ),
)
"""For `meshproof upgrade check`, in addition to `NEEDED`: without them some rules report "unknown"."""

FOR_RECORD: Final = (
    AccessRule(group="", resources=("pods", "services", "configmaps"), verbs=("list",)),
    AccessRule(group="", resources=("services",), verbs=("get",)),
    AccessRule(group="", resources=("pods/exec",), verbs=("get", "create")),
    AccessRule(group="discovery.k8s.io", resources=("endpointslices",), verbs=("list",)),
    AccessRule(
        group="admissionregistration.k8s.io",
        resources=("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
        verbs=("list",),
    ),
    AccessRule(group="apiextensions.k8s.io", resources=("customresourcedefinitions",), verbs=("list",)),
)
"""For `meshproof upgrade record`, which queries proxies and istiods by `exec`; a subset of `NEEDED`."""

FOR_INSTALLING: Final = (AccessRule(group="*", resources=("*",), verbs=("*",)),)
"""For `--mesh=install`: those of `cluster-admin`, since only such a user may create Istio's roles."""

FOR_SECRETS: Final = (AccessRule(group="", resources=("secrets",), verbs=("get", "list")),)
"""To read `cacerts` and remote secrets: without this right the claims about them, and about issuers, are skipped."""
FOR_LOCALITIES: Final = (AccessRule(group="", resources=("nodes",), verbs=("list",)),)
"""To compare priorities by locality with the nodes' regions and zones: without it they are taken as they are."""
FOR_PULL_SECRET: Final = (AccessRule(group="", resources=("secrets",), verbs=("get", "create", "patch")),)
"""For `--image-pull-secret`, which is copied into probe namespaces."""
FOR_CREDENTIALS: Final = (AccessRule(group="", resources=("serviceaccounts/token",), verbs=("create",)),)
"""For `--allow-credentials`."""
FOR_STRICT_MESHES: Final = (
    AccessRule(group="networking.istio.io", resources=("sidecars",), verbs=("create", "patch", "delete")),
    AccessRule(group="", resources=("nodes",), verbs=("list",)),
)
"""Where the mesh has a default Sidecar, since our namespaces then need their own, and where every node has a taint."""
FOR_DISRUPTION: Final = (AccessRule(group="apps", resources=("deployments/scale",), verbs=("patch",)),)
"""For `--allow-disruptive`."""


def missing_rights(kube: Kube, rules: Iterable[AccessRule]) -> list[str]:
    """The rights in these rules that the user lacks, as `create pods/exec`.

    Queries all rights of the user in one request. Those not listed are checked one by one, since authorizers
    other than RBAC need not list theirs (Kubernetes, SelfSubjectRulesReview).
    """
    spec = {"namespace": "default"}
    review = _review(kube, "SelfSubjectRulesReview", "selfsubjectrulesreviews", spec)
    granted = review["status"].get("resourceRules") or []
    doubtful = [right for right in each_right(rules) if not any(_covers(rule, *right) for rule in granted)]
    allowed = together(lambda right: _may(kube, *right), doubtful)
    return [right_text(*right) for right, may in zip(doubtful, allowed, strict=True) if not may]


def each_right(rules: Iterable[AccessRule]) -> Iterator[tuple[str, str, str]]:
    """Group, resource and verb of each right, in order."""
    for rule in rules:
        for resource in rule.resources:
            for verb in rule.verbs:
                yield rule.group, resource, verb


def _covers(granted: Json, group: str, resource: str, verb: str) -> bool:
    """Whether a rule of the review grants it for all objects, without resource names."""

    def has(key: str, *words: str) -> bool:
        return not {"*", *words}.isdisjoint(granted.get(key) or [])

    wild = (f"*/{resource.partition('/')[2]}",) if "/" in resource else ()
    return (
        not granted.get("resourceNames")
        and has("apiGroups", group)
        and has("resources", resource, *wild)
        and has("verbs", verb)
    )


def _may(kube: Kube, group: str, resource: str, verb: str) -> bool:
    name, _, sub = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": sub, "verb": verb}
    spec = {"resourceAttributes": attributes}
    return bool(_review(kube, "SelfSubjectAccessReview", "selfsubjectaccessreviews", spec)["status"].get("allowed"))


def _review(kube: Kube, kind: str, plural: str, spec: dict[str, Any]) -> Json:
    """Create a self subject review; nothing is stored."""
    return kube.post(
        f"/apis/authorization.k8s.io/v1/{plural}",
        {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec},
    )


def right_text(group: str, resource: str, verb: str) -> str:
    """As `create pods/exec` or `list deployments.apps`."""
    return f"{verb} {resource}{f'.{group}' if group else ''}"
