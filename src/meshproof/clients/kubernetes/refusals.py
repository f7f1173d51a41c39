"""Which answers of admission and of image registries are final: waiting cannot change them."""

from __future__ import annotations

import re
from typing import Final

_POLICY: Final = re.compile(
    r"violates PodSecurity|denied (the )?request|failed quota|usage per |limit to request ratio"
    r"|security context constraint| is invalid:"
)
"""Pod Security, validating policies and webhooks, quotas that want limits, limit ranges, OpenShift's SCCs, validation
(k8s.io/apiserver and kubernetes/plugin/pkg/admission). An exceeded quota is not among them: pods may go."""
_CALL: Final = "failed calling webhook"
"""The webhook did not answer: an istiod that is just starting does not either."""
_IMAGE: Final = re.compile(
    r"not found|manifest unknown|does not exist|unauthorized|authentication required|denied|forbidden|no basic auth"
    r"|invalid reference",
    re.IGNORECASE,
)


def is_refused_for_good(reason: str) -> bool:
    """Whether the API server's message about a refused pod names a rule that will refuse the next one, too."""
    return _CALL not in reason and _POLICY.search(reason) is not None


def is_unavailable_for_good(message: str) -> bool:
    """Whether the kubelet's message about an image says that there is none, or not for us."""
    return _IMAGE.search(message) is not None
