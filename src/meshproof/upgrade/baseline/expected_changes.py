"""Expected changes between releases of Istio, and after an upgrade by revision.

The rules of a release come from comparing records of one mesh before and after it, and were confirmed in Istio's
source.
"""

from __future__ import annotations

import re
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.versions import Version
from meshproof.upgrade.baseline.normalise import canonical
from meshproof.upgrade.baseline.rule import NEW, NOTHING, OLD, BaselineRule

NEVER: Final = re.escape(canonical({"istio.io/deactivated": "never-match"}))
"""The label selector of a webhook that is disabled in favour of a tag's webhook."""
OFF: Final = rf'\{{"matchLabels": {NEVER}\}}'
WEBHOOKS: Final = "istio.io/istio, manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml"


def _selectors() -> str:
    """Selectors of the webhook of a revision without a tag (chart istio-discovery, mutatingwebhook.yaml)."""
    ours: Json = {"key": names.REVISION_LABEL, "operator": "In", "values": [names.DEFAULT_REVISION]}
    allowed: Json = {"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}
    free, unnamed = ({"key": key, "operator": "DoesNotExist"} for key in ("istio-injection", names.REVISION_LABEL))
    expressions = ([ours, free], [unnamed, free], [allowed], [allowed, ours])
    return "|".join(re.escape(canonical(each)) for each in expressions)


RULES: Final = (
    BaselineRule(
        id="VERSION-1",
        sentence="istiods and proxies have the new version",
        source="the upgrade itself",
        kind="version",
        name="istiod|proxy",
        path="istio",
        before=f'"{OLD}"',
        after=f'"{NEW}"',
    ),
    BaselineRule(
        id="UNREADY-1",
        sentence="istiod also sends endpoints that are not ready, marked as unhealthy",
        source="Istio 1.31, release note 60690: PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS",
        kind="endpoints",
        path=r"endpoints\[[^\]]+ unhealthy\]",
        before=NOTHING,
        after=r'\{"count": \d+, "health": "UNHEALTHY", .*\}',
        since=Version(1, 31),
    ),
    BaselineRule(
        id="UNREADY-2",
        sentence="the panic threshold is zero: endpoints that are not ready get no requests, however few are ready",
        source="note 60690; istio.io/istio, pilot/pkg/networking/core/cluster_traffic_policy.go, HealthyPanicThreshold",
        kind="cluster",
        name=r"outbound[|_].*",
        path=r"commonLbConfig\.healthyPanicThreshold",
        before=NOTHING,
        after=r"\{\}",
        since=Version(1, 31),
    ),
    BaselineRule(
        id="REVISION-1",
        sentence="only the default revision has webhooks for namespaces without a revision; they were disabled",
        source=WEBHOOKS,
        kind="webhook",
        name=r"istio-sidecar-injector (namespace|object)\.sidecar-injector\.istio\.io",
        path="",
        before=rf'.*"namespaceSelector": {OFF}, "objectSelector": {OFF},.*',
        after=NOTHING,
    ),
    BaselineRule(
        id="REVISION-2",
        sentence="the webhook of a revision is enabled; that of the default revision was disabled for its tag",
        source=WEBHOOKS,
        kind="webhook",
        name=r"istio-sidecar-injector rev\.(namespace|object)\.sidecar-injector\.istio\.io",
        path=r"(namespace|object)Selector\.matchLabels",
        before=NEVER,
        after=NOTHING,
    ),
    BaselineRule(
        id="REVISION-3",
        sentence="the webhook of a revision selects objects with the label of that revision",
        source=WEBHOOKS,
        kind="webhook",
        name=r"istio-sidecar-injector rev\.(namespace|object)\.sidecar-injector\.istio\.io",
        path=r"(namespace|object)Selector\.matchExpressions",
        before=NOTHING,
        after=_selectors(),
    ),
    BaselineRule(
        id="INSTALL-1",
        sentence="when istioctl installs again, the validation webhook of a remote gets the CA bundle of the injection "
        "webhook; it still fails open",
        source="istio.io/istio, istioctl/pkg/tag/generate.go, generateValidatingWebhook",
        kind="webhook",
        name=r"istiod-default-validator validation\.istio\.io",
        path="trusted",
        before='"nobody"',
        after=r'\["[^"]+"(, "[^"]+")*\]',
    ),
)
