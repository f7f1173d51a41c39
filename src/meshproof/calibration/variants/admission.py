"""Variants of what a platform demands of pods and namespaces."""

from __future__ import annotations

import json
from typing import Final

from meshproof.calibration.variants.common import SYSTEM, add_everywhere, namespaces_of, thing
from meshproof.calibration.variants.variant import Variant
from meshproof.clients.kubernetes.client import ApiError, Json, path_of
from meshproof.core import names
from meshproof.core.waiting import NotYet
from meshproof.faults.editor import JournalledEditor
from meshproof.mesh.handles import Cluster

LIMITS: Final = {"cpu": "2", "memory": "1Gi"}
"""Those that Istio's charts give every proxy by default."""
ENFORCE: Final = "pod-security.kubernetes.io/enforce"
DRY_RUN: Final = {"dryRun": "All"}


def _policy(kind: str, name: str, spec: Json, binding: Json) -> tuple[Json, Json]:
    """An admission policy and its binding."""
    return (
        thing(kind, name, spec=spec),
        thing(f"{kind}Binding", name, spec={"policyName": name, **binding}),
    )


def _rule(group: str, resource: str) -> Json:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}


def _outside_of(namespaces: tuple[str, ...]) -> Json:
    """Selects all other namespaces."""
    key = "kubernetes.io/metadata.name"
    return {"matchExpressions": [{"key": key, "operator": "NotIn", "values": list(namespaces)}]}


def _need_limits(editor: JournalledEditor) -> None:
    """Every container of a new pod has limits, proxies included; system namespaces are exempt."""
    containers = "(object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : []))"
    limited = "has(c.resources) && has(c.resources.limits) && 'memory' in c.resources.limits"
    for cluster in editor.mesh.clusters:
        if cluster.is_primary:
            _limit_proxies(editor, cluster)
        exempt = _outside_of(("kube-system", *cluster.spec.mesh_namespaces))
        spec = {
            "failurePolicy": "Fail",
            "matchConstraints": {"namespaceSelector": exempt, "resourceRules": [_rule("", "pods")]},
            "validations": [
                {"expression": f"{containers}.all(c, {limited})", "message": "every container needs a memory limit"}
            ],
        }
        binding = {"validationActions": ["Deny"]}
        add_everywhere(editor, [cluster], *_policy("ValidatingAdmissionPolicy", "need-limits", spec, binding))


def _limit_proxies(editor: JournalledEditor, primary: Cluster) -> None:
    """The injector's values, as `values.global.proxy.resources` sets them; istiod reads them at once."""

    def change(found: Json) -> None:
        values = json.loads(found["data"]["values"])
        resources = values["global"]["proxy"].get("resources") or {}
        values["global"]["proxy"]["resources"] = {**resources, "limits": LIMITS}
        found["data"]["values"] = json.dumps(values)

    name = names.of_revision("istio-sidecar-injector", primary.spec.revision)
    editor.edit(primary, "ConfigMap", name, SYSTEM, change)


def _pod_security(editor: JournalledEditor) -> None:
    """Namespaces outside the mesh get the label when they are made; those in it need NET_ADMIN for istio-init."""
    labels = "(has(object.metadata.labels) ? object.metadata.labels : {})"
    exempt = "['kube-system', 'kube-public', 'kube-node-lease', 'default', 'istio-system']"
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [_rule("", "namespaces")]},
        "matchConditions": [
            {"name": "application", "expression": f"!(object.metadata.name in {exempt})"},
            {
                "name": "outside-the-mesh",
                "expression": f"!('istio-injection' in {labels}) && !('{names.REVISION_LABEL}' in {labels})",
            },
        ],
        "mutations": [
            {
                "patchType": "JSONPatch",
                "jsonPatch": {
                    "expression": '[JSONPatch{op: "add", path: "/metadata/labels/" + '
                    f'jsonpatch.escapeKey("{ENFORCE}"), value: "restricted"}}]'
                },
            }
        ],
    }
    add_everywhere(editor, editor.mesh.clusters, *_policy("MutatingAdmissionPolicy", "restricted-namespaces", spec, {}))


def _limits_are_needed(editor: JournalledEditor) -> None:
    """A pod without limits is rejected, in a dry run: the API server loads a new policy some seconds later."""
    spec = {"containers": [{"name": "any", "image": "any"}]}
    for cluster in editor.mesh.clusters:
        if "need-limits" not in _rejection(cluster, thing("Pod", "without-limits", "default", spec=spec)):
            raise NotYet(f"{cluster} accepts pods without limits")


def _namespaces_are_restricted(editor: JournalledEditor) -> None:
    namespace = thing("Namespace", "any-new-one")
    for cluster in editor.mesh.clusters:
        made = json.loads(cluster.kube.request("POST", path_of("Namespace"), body=namespace, query=DRY_RUN))
        if ENFORCE not in (made["metadata"].get("labels") or {}):
            raise NotYet(f"{cluster} does not label a new namespace")


def _rejection(cluster: Cluster, pod: Json) -> str:
    """Why the API server rejects a pod; empty if it does not."""
    try:
        cluster.kube.request("POST", path_of("Pod", pod["metadata"]["namespace"]), body=pod, query=DRY_RUN)
    except ApiError as problem:
        return problem.reason
    return ""


def _quota(editor: JournalledEditor) -> None:
    """A quota that demands requests and limits, and a range that supplies them, in every namespace but kube-system."""
    hard = {"pods": "40", "requests.cpu": "8", "requests.memory": "8Gi", "limits.cpu": "64", "limits.memory": "32Gi"}
    default = {"cpu": "1", "memory": "512Mi"}
    limit = {"type": "Container", "default": default, "defaultRequest": {"cpu": "10m", "memory": "32Mi"}}
    for cluster in editor.mesh.clusters:
        for name in namespaces_of(cluster):
            if name != "kube-system":
                editor.add(cluster, thing("LimitRange", "platform", name, spec={"limits": [limit]}))
                editor.add(cluster, thing("ResourceQuota", "platform", name, spec={"hard": hard}))


ADMISSION: Final = (
    Variant(
        id="need-limits",
        sentence="an admission policy rejects containers without a memory limit",
        legal="Kubernetes, Validating Admission Policy",
        apply=_need_limits,
        has_taken_effect=_limits_are_needed,
        still_kills=("I5",),
    ),
    Variant(
        id="pod-security",
        sentence="namespaces outside the mesh enforce the restricted Pod Security Standard",
        legal="Kubernetes, Pod Security Admission: namespace labels; Kubernetes, Mutating Admission Policy",
        apply=_pod_security,
        has_taken_effect=_namespaces_are_restricted,
    ),
    Variant(
        id="quota",
        sentence="every namespace has a ResourceQuota and a LimitRange",
        legal="Kubernetes, Resource Quotas; Kubernetes, Limit Ranges",
        apply=_quota,
        with_app=True,
    ),
)
