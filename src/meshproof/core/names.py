"""Names that Istio, the demonstration service and meshproof share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SYSTEM_NAMESPACE: Final = "istio-system"
"""The namespace of istiod and, by default, of the gateways."""

DEFAULT_REVISION: Final = "default"
"""What Istio calls the revision of an istiod that was installed without one."""
REVISION_LABEL: Final = "istio.io/rev"
TAG_LABEL: Final = "istio.io/tag"
"""Label of a tag's webhooks, in addition to the revision that the tag points to (istio.io, Canary Upgrades)."""
ISTIOD: Final = "istiod"
MESH_CONFIG: Final = "istio"
"""Names of istiod's Deployment and Service, and of the ConfigMap of its mesh, without a revision."""


def of_revision(name: str, revision: str) -> str:
    """The name of an object of istiod, suffixed with any revision but the default (chart istio-discovery)."""
    return name if revision == DEFAULT_REVISION else f"{name}-{revision}"


CLUSTER_DOMAIN: Final = "cluster.local"
"""The cluster domain, the same in every cluster."""


def fqdn(service: str, namespace: str) -> str:
    """The FQDN of a Service, which is its host name in Istio (Kubernetes, DNS for Services and Pods)."""
    return f"{service}.{namespace}.svc.{CLUSTER_DOMAIN}"


APP_NAMESPACE: Final = "meshproof-app"
"""The namespace of the demonstration service."""

APP_SERVICE: Final = "mockshop"
APP_FQDN: Final = fqdn(APP_SERVICE, APP_NAMESPACE)
APP_HOST: Final = "mockshop.com"
APP_PORT: Final = 80
APP_ACCOUNT: Final = "mockshop"

CLIENT_NAMESPACE: Final = "meshproof-clients"
"""Injected namespace with one client pod per cluster: the in-mesh client."""

OUTSIDE_NAMESPACE: Final = "meshproof-outside"
"""Not injected: a client pod per cluster without a sidecar, for probes of the wire."""

NAMESPACE_PREFIX: Final = "meshproof-"
"""Prefix of all our namespaces, and of objects that probes create elsewhere."""
_OF_PROBES: Final = re.compile(rf"{NAMESPACE_PREFIX}(?!(?:app|clients)\b)")


def mentions_probes(text: str) -> bool:
    """Whether a text names a temporary object of a probe."""
    return _OF_PROBES.search(text) is not None


def is_probe_namespace(namespace: str) -> bool:
    """Whether a namespace is ours and only for probes: without the demonstration service and its clients."""
    return _OF_PROBES.match(namespace) is not None


CLIENT_POD: Final = "client"
"""Name of the Deployment, its `app` label and its own container, in both client namespaces."""

INGRESS: Final = "istio-ingressgateway"
"""Name of the Deployment and Service of the ingress gateway; its pods carry the label `istio: ingressgateway`."""

EAST_WEST: Final = "istio-eastwestgateway"
"""Name of the Deployment and Service of the east-west gateway; its pods carry `istio: eastwestgateway`."""

PORT_INGRESS: Final = 80
"""Port of ingress gateways for clients outside the mesh."""

EXPORT_TO: Final = "networking.istio.io/exportTo"
"""Annotation of a Service: the namespaces that see it; `*` where the mesh's default is narrower."""

NETWORK_LABEL: Final = "topology.istio.io/network"
CONTROL_PLANES_ANNOTATION: Final = "topology.istio.io/controlPlaneClusters"

PORT_SERVICES: Final = 15443
"""AUTO_PASSTHROUGH for services of the mesh, across networks."""
PORT_XDS: Final = 15012
PORT_WEBHOOK: Final = 15017

CACERTS: Final = "cacerts"
CROSS_NETWORK_GATEWAY: Final = "cross-network-gateway"
ISTIOD_GATEWAY: Final = "istiod-gateway"

FLAGS_HEADER: Final = "x-meshproof-flags"
ATTEMPTS_HEADER: Final = "x-meshproof-attempts"
DIAGNOSTIC_HEADERS: Final = {FLAGS_HEADER: "%RESPONSE_FLAGS%", ATTEMPTS_HEADER: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"}
"""Response headers with which our routes report what their proxy knows (Envoy, Access logging: command operators)."""


INJECTOR_LABEL: Final = "app=sidecar-injector"
"""Selects all injection webhook configurations: the revision's own and those of tags (chart istio-discovery)."""


APP_CLUSTER: Final = f"outbound|{APP_PORT}||{APP_FQDN}"
"""The application's port as sidecars and ingress gateways name its Envoy cluster."""


MANAGED_BY: Mapping[str, str] = {"app.kubernetes.io/managed-by": "meshproof"}
"""Label of every object that we apply; objects with it are ours to remove."""


PROXY: Final = "istio-proxy"
"""The container of the sidecar or gateway; an init container with restartPolicy Always if sidecars are native."""


ROOT_MAP: Final = "istio-ca-root-cert"
"""istiod writes it into every namespace; a pod created before hangs in the kubelet's mount back-off."""
