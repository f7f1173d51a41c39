"""What istiod needs of another cluster: the rights of the account whose token is in the remote secret."""

from __future__ import annotations

from typing import Final

from meshproof.clients.kubernetes.rbac import READ
from meshproof.clients.kubernetes.rbac import AccessRule as Right

READER_SOURCE: Final = "istio/istio, manifests/charts/istio-control/istio-discovery/templates/reader-clusterrole.yaml"
"""The role that gives them; the same in 1.30 and 1.31. It gives more, for features that are optional."""

READER_RIGHTS: Final = (
    Right(group="", resources=("namespaces", "nodes", "pods", "services", "secrets", "configmaps"), verbs=READ),
    Right(group="discovery.k8s.io", resources=("endpointslices",), verbs=READ),
    Right(group="networking.istio.io", resources=("workloadentries",), verbs=READ),
    Right(group="apiextensions.k8s.io", resources=("customresourcedefinitions",), verbs=READ),
    Right(group="authentication.k8s.io", resources=("tokenreviews",), verbs=("create",)),
    Right(group="authorization.k8s.io", resources=("subjectaccessreviews",), verbs=("create",)),
)
"""For every cluster that it reads (pilot/pkg/serviceregistry/kube/controller, pkg/kube/multicluster).

`configmaps` since 1.29, for the trust domain that is written there.
"""

# Not `validatingwebhookconfigurations`, though the role has them: istiod watches and patches those of its own cluster
# alone (pilot/pkg/bootstrap/validation.go, pkg/revisions/tag_watcher.go); a remote's are written by istioctl.
REMOTE_RIGHTS: Final = (
    Right(group="", resources=("configmaps",), verbs=("create", "update")),
    Right(
        group="admissionregistration.k8s.io",
        resources=("mutatingwebhookconfigurations",),
        verbs=(*READ, "update", "patch"),
    ),
)
"""For a cluster that it controls besides: to elect a leader, to write its root, and to patch it into webhooks."""


def reader_rights(*, controlled: bool) -> tuple[Right, ...]:
    """What the account needs in a cluster which that istiod only reads, or `controlled` by it."""
    return (*READER_RIGHTS, *REMOTE_RIGHTS) if controlled else READER_RIGHTS
