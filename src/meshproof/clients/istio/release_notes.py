"""Requirements and changes of Istio releases as data. Every record names its source.

`istio.io` is the documentation of the named release, paths are those of the repository istio/istio in the
source of 1.30 or 1.31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshproof.core.versions import Version

LAST_KNOWN: Final = Version(1, 31)
"""The latest release covered by these records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """The first and last minor version of Kubernetes that a release supports."""

    istio: Version
    first: Version
    last: Version
    source: str


KUBERNETES: Final = (
    Kubernetes(
        istio=Version(1, 28),
        first=Version(1, 29),
        last=Version(1, 34),
        source="istio.io, Announcing Istio 1.28.0",
    ),
    Kubernetes(
        istio=Version(1, 29),
        first=Version(1, 31),
        last=Version(1, 35),
        source="istio.io, Announcing Istio 1.29.0",
    ),
    Kubernetes(
        istio=Version(1, 30),
        first=Version(1, 32),
        last=Version(1, 36),
        source="istio.io, Announcing Istio 1.30.0; istio/istio, istioctl/pkg/install/k8sversion/version.go",
    ),
    Kubernetes(
        istio=Version(1, 31),
        first=Version(1, 32),
        last=Version(1, 36),
        source="istio.io, Announcing Istio 1.31.0; istio/istio, istioctl/pkg/install/k8sversion/version.go",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """An environment variable of istiod that a release no longer reads. `instead` is the replacement or the new
    behaviour."""

    name: str
    since: Version
    instead: str
    source: str


REMOVED: Final = (
    Removed(
        name="METRIC_ROTATION_INTERVAL",
        since=Version(1, 28),
        instead="use the pod annotation sidecar.istio.io/statsEvictionInterval",
        source="istio.io, 1.28 Upgrade Notes; istio/istio, releasenotes/notes/remove-metric-rotation.yaml",
    ),
    Removed(
        name="METRIC_GRACEFUL_DELETION_INTERVAL",
        since=Version(1, 28),
        instead="use the pod annotation sidecar.istio.io/statsEvictionInterval",
        source="istio.io, 1.28 Upgrade Notes; istio/istio, releasenotes/notes/remove-metric-rotation.yaml",
    ),
    Removed(
        name="PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY",
        since=Version(1, 31),
        instead="gateways always create a span for each upstream request: check the capacity of the tracing backend",
        source="istio.io, 1.31 Upgrade Notes; releasenotes/notes/remove-spawn-upstream-span-for-gateway.yaml",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """An environment variable of istiod whose default has changed.

    `now` is the effect of the new default, `before` the value for the old behaviour. `touches` is the key in
    `ClusterSeen.configured` of the affected configuration; empty if that cannot be detected.
    """

    name: str
    since: Version
    now: str
    before: str
    source: str
    touches: str = ""


OUTLIERS: Final = "outlierDetection"
MIRRORS: Final = "mirror"

CHANGED: Final = (
    Changed(
        name="DISABLE_SHADOW_HOST_SUFFIX",
        since=Version(1, 28),
        now="the host of mirrored requests has no suffix -shadow any more",
        before="false",
        touches=MIRRORS,
        source="istio/istio, manifests/helm-profiles/compatibility-version-1.27.yaml",
    ),
    Changed(
        name="PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY",
        since=Version(1, 28),
        now="gateways create a span for each upstream request",
        before="false",
        source="istio/istio, manifests/helm-profiles/compatibility-version-1.27.yaml",
    ),
    Changed(
        name="DISABLE_TRACK_REMAINING_CB_METRICS",
        since=Version(1, 29),
        now="proxies no longer report the remaining capacity of circuit breakers",
        before="false",
        source="istio/istio, manifests/helm-profiles/compatibility-version-1.28.yaml",
    ),
    Changed(
        name="ENABLE_DEBUG_ENDPOINT_AUTH",
        since=Version(1, 29),
        now="istiod's debug endpoints return hardly any data to namespaces other than its own",
        before="false",
        source="istio.io, 1.29 Upgrade Notes; istio/istio, pilot/pkg/features/pilot.go",
    ),
    Changed(
        name="PILOT_SIDECAR_PICK_BEST_SERVICE_NAMESPACE",
        since=Version(1, 30),
        now="if services in several namespaces have the same host, Kubernetes Services win, then the oldest",
        before="false",
        source="istio/istio, manifests/helm-profiles/compatibility-version-1.29.yaml",
    ),
    Changed(
        name="PILOT_ENABLE_STRICT_GATEWAY_MERGING",
        since=Version(1, 31),
        now="gateways created by the Gateway API ignore Istio Gateways of other namespaces",
        before="false",
        source="istio/istio, manifests/helm-profiles/compatibility-version-1.30.yaml",
    ),
    Changed(
        name="PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS",
        since=Version(1, 31),
        now="unready endpoints are sent to proxies too, unless outlierDetection sets minHealthPercent",
        before="false",
        touches=OUTLIERS,
        source="istio/istio, manifests/helm-profiles/compatibility-version-1.30.yaml",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedAnnotation:
    """An annotation of pods that a release no longer reads."""

    name: str
    since: Version
    instead: str
    source: str


GONE_ANNOTATIONS: Final = (
    RemovedAnnotation(
        name="sidecar.istio.io/statsCompression",
        since=Version(1, 29),
        instead="set statsCompression in the annotation proxy.istio.io/config",
        source="istio.io, 1.29 Upgrade Notes; istio/istio, releasenotes/notes/48051.yaml",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastBundle:
    """The minimum Gateway API release of a CRD; with an older one istiod ignores its objects."""

    crd: str
    least: tuple[int, int, int]
    since: Version


BUNDLES_SOURCE: Final = "istio/istio, pkg/config/schema/gatewayapi/minimumversions.go"
BUNDLES: Final = (
    LeastBundle(crd="grpcroutes.gateway.networking.k8s.io", least=(1, 1, 0), since=Version(1, 30)),
    LeastBundle(crd="backendtlspolicies.gateway.networking.k8s.io", least=(1, 4, 0), since=Version(1, 30)),
    LeastBundle(crd="tlsroutes.gateway.networking.k8s.io", least=(1, 5, 0), since=Version(1, 30)),
    LeastBundle(crd="tcproutes.gateway.networking.k8s.io", least=(1, 6, 0), since=Version(1, 31)),
)

ALL_NETWORKING: Final = frozenset({"v1", "v1beta1", "v1alpha3"})
CRDS_SOURCE: Final = "istio/istio, manifests/charts/base/files/crd-all.gen.yaml"
CRDS: Final[dict[str, frozenset[str]]] = {
    "destinationrules.networking.istio.io": ALL_NETWORKING,
    "envoyfilters.networking.istio.io": frozenset({"v1alpha3"}),
    "gateways.networking.istio.io": ALL_NETWORKING,
    "proxyconfigs.networking.istio.io": frozenset({"v1beta1"}),
    "serviceentries.networking.istio.io": ALL_NETWORKING,
    "sidecars.networking.istio.io": ALL_NETWORKING,
    "virtualservices.networking.istio.io": ALL_NETWORKING,
    "workloadentries.networking.istio.io": ALL_NETWORKING,
    "workloadgroups.networking.istio.io": ALL_NETWORKING,
    "authorizationpolicies.security.istio.io": frozenset({"v1", "v1beta1"}),
    "peerauthentications.security.istio.io": frozenset({"v1", "v1beta1"}),
    "requestauthentications.security.istio.io": frozenset({"v1", "v1beta1"}),
    "telemetries.telemetry.istio.io": frozenset({"v1", "v1alpha1"}),
    "trafficextensions.extensions.istio.io": frozenset({"v1alpha1"}),
    "wasmplugins.extensions.istio.io": frozenset({"v1alpha1"}),
}
"""The CRDs of 1.30 and 1.31 (both have the same), and the versions that they serve."""

COMPATIBILITY_SOURCE: Final = "istio/istio, manifests/helm-profiles/compatibility-version-*.yaml"
COMPATIBILITY: Final = {
    Version(1, 30): (Version(1, 25), Version(1, 29)),
    Version(1, 31): (Version(1, 25), Version(1, 30)),
}
"""The oldest and newest values of compatibilityVersion."""

CLOSED_HUBS_SINCE: Final = Version(1, 31)
CLOSED_HUBS: Final = ("gcr.io/istio-release", "registry.istio.io")
CLOSED_HUBS_SOURCE: Final = "istio.io, 1.31 Upgrade Notes: GCP hosting"
