"""The web pages that promise what claims state, by the names under which `promised_by` cites them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ISTIO: Final = "https://istio.io/latest/docs/"
KUBERNETES: Final = "https://kubernetes.io/docs/"

PAGES: Final = {
    "Accessing External Services": f"{ISTIO}tasks/traffic-management/egress/egress-control/",
    "Authentication Policy": f"{ISTIO}tasks/security/authentication/authn-policy/",
    "Authorization Policy": f"{ISTIO}reference/config/security/authorization-policy/",
    "Canary Upgrades": f"{ISTIO}setup/upgrade/canary/",
    "Configuration Validation Webhook": f"{ISTIO}ops/configuration/mesh/validation/",
    "DNS Proxying": f"{ISTIO}ops/configuration/traffic-management/dns-proxy/",
    "Deployment models": f"{ISTIO}ops/deployment/deployment-models/",
    "Deployment models, Control plane models": f"{ISTIO}ops/deployment/deployment-models/#control-plane-models",
    "Deployment models, Multiple networks": f"{ISTIO}ops/deployment/deployment-models/#multiple-networks",
    "Deployment models, Network models": f"{ISTIO}ops/deployment/deployment-models/#network-models",
    "Destination Rule": f"{ISTIO}reference/config/networking/destination-rule/",
    "Gateway": f"{ISTIO}reference/config/networking/gateway/",
    "Global Mesh Options": f"{ISTIO}reference/config/istio.mesh.v1alpha1/",
    "In-place Upgrades": f"{ISTIO}setup/upgrade/in-place/",
    "Ingress Gateways": f"{ISTIO}tasks/traffic-management/ingress/ingress-control/",
    "Install Multi-Primary": f"{ISTIO}setup/install/multicluster/multi-primary/",
    "Install Multicluster": f"{ISTIO}setup/install/multicluster/",
    "Install Multicluster, Before you begin": f"{ISTIO}setup/install/multicluster/before-you-begin/",
    "Install Multicluster, Enable Endpoint Discovery": (
        f"{ISTIO}setup/install/multicluster/multi-primary/#enable-endpoint-discovery"
    ),
    "Install Primary-Remote": f"{ISTIO}setup/install/multicluster/primary-remote/",
    "JWT Token": f"{ISTIO}tasks/security/authorization/authz-jwt/",
    "Load balancing": f"{ISTIO}concepts/traffic-management/#load-balancing-options",
    "Locality Load Balancing": f"{ISTIO}tasks/traffic-management/locality-load-balancing/",
    "Multi-cluster Traffic Management": f"{ISTIO}ops/configuration/traffic-management/multicluster/",
    "Mutual TLS, auto mutual TLS": f"{ISTIO}tasks/security/authentication/authn-policy/#auto-mutual-tls",
    "Mutual TLS Migration": f"{ISTIO}tasks/security/authentication/mtls-migration/",
    "Peer Authentication": f"{ISTIO}reference/config/security/peer_authentication/",
    "Plug in CA Certificates": f"{ISTIO}tasks/security/cert-management/plugin-ca-cert/",
    "Protocol Selection": f"{ISTIO}ops/configuration/traffic-management/protocol-selection/",
    "Secure Gateways": f"{ISTIO}tasks/traffic-management/ingress/secure-ingress/",
    "Security": f"{ISTIO}concepts/security/",
    "Security, Identity": f"{ISTIO}concepts/security/#istio-identity",
    "Security, Identity and certificate management": f"{ISTIO}concepts/security/#pki",
    "Security, Mutual TLS authentication": f"{ISTIO}concepts/security/#mutual-tls-authentication",
    "Security, Secure naming": f"{ISTIO}concepts/security/#secure-naming",
    "Security best practices": f"{ISTIO}ops/best-practices/security/",
    "Sidecar": f"{ISTIO}reference/config/networking/sidecar/",
    "Sidecar injection": f"{ISTIO}setup/additional-setup/sidecar-injection/",
    "Sidecar injection problems": f"{ISTIO}ops/common-problems/injection/",
    "Supported Releases": f"{ISTIO}releases/supported-releases/",
    "Telemetry": f"{ISTIO}reference/config/telemetry/",
    "Traffic Shifting": f"{ISTIO}tasks/traffic-management/traffic-shifting/",
    "Trust domain migration": f"{ISTIO}tasks/security/authorization/authz-td-migration/",
    "Verify the installation": f"{ISTIO}setup/install/multicluster/verify/",
    "Verify the multicluster installation": f"{ISTIO}setup/install/multicluster/verify/",
    "Virtual Service": f"{ISTIO}reference/config/networking/virtual-service/",
    "istioctl proxy-status": f"{ISTIO}ops/diagnostic-tools/proxy-cmd/",
    "pilot-agent": f"{ISTIO}reference/commands/pilot-agent/",
    "pilot-discovery": f"{ISTIO}reference/commands/pilot-discovery/",
    "Kubernetes, Deployments": f"{KUBERNETES}concepts/workloads/controllers/deployment/",
    "Kubernetes, Limit Ranges": f"{KUBERNETES}concepts/policy/limit-range/",
    "Kubernetes, Mutating Admission Policy": f"{KUBERNETES}reference/access-authn-authz/mutating-admission-policy/",
    "Kubernetes, Pod Security Admission": f"{KUBERNETES}concepts/security/pod-security-admission/",
    "Kubernetes, Pod lifecycle": f"{KUBERNETES}concepts/workloads/pods/pod-lifecycle/",
    "Kubernetes, ReplicaSet controller": f"{KUBERNETES}concepts/workloads/controllers/replicaset/",
    "Kubernetes, Resource Quotas": f"{KUBERNETES}concepts/policy/resource-quotas/",
    "Kubernetes, Services": f"{KUBERNETES}concepts/services-networking/service/",
    "Kubernetes, Validating Admission Policy": f"{KUBERNETES}reference/access-authn-authz/validating-admission-policy/",
    "Kubernetes, WebhookClientConfig": (
        f"{KUBERNETES}reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook"
    ),
    "Kubernetes, Well-Known Labels": f"{KUBERNETES}reference/labels-annotations-taints/",
    "RFC 5280": "https://www.rfc-editor.org/rfc/rfc5280",
    "RFC 7519": "https://www.rfc-editor.org/rfc/rfc7519",
    "RFC 9110": "https://www.rfc-editor.org/rfc/rfc9110",
    "SPIFFE X.509-SVID": "https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md",
    "xDS protocol": "https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol",
}
"""A heading follows its page behind a comma here, behind a comma or a colon in `promised_by`."""


def _pattern(name: str) -> str:
    return rf"(?<![\w-]){re.escape(name).replace(re.escape(', '), '[,:] ')}(?![\w-])"


_NAMES: Final = sorted(PAGES, key=len, reverse=True)
_CITED: Final = re.compile("|".join(f"({_pattern(name)})" for name in _NAMES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page on the web, by the name under which a claim cites it."""

    name: str
    url: str


def cited(promised_by: str) -> tuple[Page, ...]:
    """The pages that a `promised_by` cites, each once, in its order."""
    found = (_page(match) for match in _CITED.finditer(promised_by))
    return tuple(dict.fromkeys(found))


def linked(promised_by: str) -> str:
    """The same text for Markdown, with links to the pages."""
    return _CITED.sub(lambda match: f"[{match[0]}]({_page(match).url})", promised_by)


def _page(match: re.Match[str]) -> Page:
    name = _NAMES[(match.lastindex or 1) - 1]
    return Page(name=name, url=PAGES[name])
