"""The rules: what differs between releases of Istio, and after an upgrade by revision.

Those of a release were found by comparing records of one mesh before and after it, and then sought in Istio's source.
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
"""The labels that a webhook asks for which is switched off in favour of that of a tag."""
OFF: Final = rf'\{{"matchLabels": {NEVER}\}}'
WEBHOOKS: Final = "istio.io/istio, manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml"


def _selectors() -> str:
    """Those of the webhook of a revision that no tag stands for (chart istio-discovery, mutatingwebhook.yaml)."""
    ours: Json = {"key": names.REVISION_LABEL, "operator": "In", "values": [names.DEFAULT_REVISION]}
    allowed: Json = {"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}
    free, unnamed = ({"key": key, "operator": "DoesNotExist"} for key in ("istio-injection", names.REVISION_LABEL))
    told = ([ours, free], [unnamed, free], [allowed], [allowed, ours])
    return "|".join(re.escape(canonical(each)) for each in told)


RULES: Final = (
    BaselineRule(
        id="VERSION-1",
        sentence="istiods and proxies are of the new version",
        source="the upgrade itself",
        kind="version",
        name="istiod|proxy",
        path="istio",
        before=f'"{OLD}"',
        after=f'"{NEW}"',
    ),
    BaselineRule(
        id="UNREADY-1",
        sentence="istiod sends endpoints that are not ready as well, and says that they are unhealthy",
        source="Istio 1.31, release note 60690: PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS",
        kind="endpoints",
        path=r"endpoints\[[^\]]+ unhealthy\]",
        before=NOTHING,
        after=r'\{"count": \d+, "health": "UNHEALTHY", .*\}',
        since=Version(1, 31),
    ),
    BaselineRule(
        id="UNREADY-2",
        sentence="endpoints that are not ready get no requests, however few are ready: the panic threshold is zero",
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
        sentence="only the default revision has webhooks for namespaces without a revision; they were switched off",
        source=WEBHOOKS,
        kind="webhook",
        name=r"istio-sidecar-injector (namespace|object)\.sidecar-injector\.istio\.io",
        path="",
        before=rf'.*"namespaceSelector": {OFF}, "objectSelector": {OFF},.*',
        after=NOTHING,
    ),
    BaselineRule(
        id="REVISION-2",
        sentence="the webhook of a revision is not switched off, as that of the default revision was for its tag",
        source=WEBHOOKS,
        kind="webhook",
        name=r"istio-sidecar-injector rev\.(namespace|object)\.sidecar-injector\.istio\.io",
        path=r"(namespace|object)Selector\.matchLabels",
        before=NEVER,
        after=NOTHING,
    ),
    BaselineRule(
        id="REVISION-3",
        sentence="it selects what is labelled with its revision",
        source=WEBHOOKS,
        kind="webhook",
        name=r"istio-sidecar-injector rev\.(namespace|object)\.sidecar-injector\.istio\.io",
        path=r"(namespace|object)Selector\.matchExpressions",
        before=NOTHING,
        after=_selectors(),
    ),
    BaselineRule(
        id="INSTALL-1",
        sentence="installing once more, istioctl lets the validation webhook of a remote trust what its injection "
        "webhook trusts by then; it still fails open",
        source="istio.io/istio, istioctl/pkg/tag/generate.go, generateValidatingWebhook",
        kind="webhook",
        name=r"istiod-default-validator validation\.istio\.io",
        path="trusted",
        before='"nobody"',
        after=r'\["[^"]+"(, "[^"]+")*\]',
    ),
)
