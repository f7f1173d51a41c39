"""The rights that istiod needs in another cluster, for the account whose token is in the remote secret."""

from __future__ import annotations

from typing import Final

from meshproof.clients.kubernetes.rbac import READ
from meshproof.clients.kubernetes.rbac import AccessRule as Right

READER_SOURCE: Final = "istio/istio, manifests/charts/istio-control/istio-discovery/templates/reader-clusterrole.yaml"
"""The role that grants them, the same in 1.30 and 1.31. It grants more, for optional features."""

READER_RIGHTS: Final = (
    Right(group="", resources=("namespaces", "nodes", "pods", "services", "secrets", "configmaps"), verbs=READ),
    Right(group="discovery.k8s.io", resources=("endpointslices",), verbs=READ),
    Right(group="networking.istio.io", resources=("workloadentries",), verbs=READ),
    Right(group="apiextensions.k8s.io", resources=("customresourcedefinitions",), verbs=READ),
    Right(group="authentication.k8s.io", resources=("tokenreviews",), verbs=("create",)),
    Right(group="authorization.k8s.io", resources=("subjectaccessreviews",), verbs=("create",)),
)
"""For every cluster that istiod reads (pilot/pkg/serviceregistry/kube/controller, pkg/kube/multicluster).

`configmaps` since 1.29, for the trust domain in them.
"""

# Without `validatingwebhookconfigurations`, though in the role: istiod watches and patches those of its own cluster
# only (pilot/pkg/bootstrap/validation.go, pkg/revisions/tag_watcher.go); a remote's are written by istioctl.
REMOTE_RIGHTS: Final = (
    Right(group="", resources=("configmaps",), verbs=("create", "update")),
    Right(
        group="admissionregistration.k8s.io",
        resources=("mutatingwebhookconfigurations",),
        verbs=(*READ, "update", "patch"),
    ),
)
"""In addition for a cluster that it controls: for leader election, and to write its root and patch it into webhooks."""


def reader_rights(*, controlled: bool) -> tuple[Right, ...]:
    """The rights that the account needs in a cluster that istiod only reads, or one `controlled` by it."""
    return (*READER_RIGHTS, *REMOTE_RIGHTS) if controlled else READER_RIGHTS
