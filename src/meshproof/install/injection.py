"""Sidecar injection as a cluster's API server sees it: the webhooks' CA, and what happens to a new pod."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshproof.clients.kubernetes.client import ApiError, Json, Kube
from meshproof.clients.kubernetes.pods import dry_run_pod
from meshproof.clients.kubernetes.refusals import is_refused_for_good
from meshproof.clients.kubernetes.rollout import until
from meshproof.core.errors import Aborted, NotReady
from meshproof.core.model import ClusterName
from meshproof.core.names import CLIENT_NAMESPACE, INJECTOR_LABEL, ROOT_MAP
from meshproof.core.waiting import NotYet, eventually
from meshproof.probes.admission import DryRun, dry_run

ROOT_CONFIGMAP_REPAIR: Final = (
    "istiod creates it: check its log; for a remote cluster it needs the remote secret, and the annotation "
    "topology.istio.io/controlPlaneClusters on the remote's istio-system"
)
POLICY_REPAIR: Final = "exempt namespaces whose names begin with meshproof- from it; docs/attach.md, Admission"


class Refused(NotReady):
    """A rule of the cluster's operator refuses a pod; it will refuse the next one, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectorState:
    """Injection in one cluster at one moment.

    `ca_bundles` are the different caBundles of its injection webhooks, base64 as the API gives them; empty before an
    istiod has patched them. `words` is the API server's message if the pod was denied.
    """

    ca_bundles: tuple[str, ...]
    pod: DryRun
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteEvidence:
    """State of injection in a remote cluster before and after its primary got the remote secret (for CONTROL-01).

    With `secret_was_there` the secret existed before this install, so `before` proves nothing.
    """

    cluster: ClusterName
    secret_was_there: bool
    before: InjectorState
    after: InjectorState


def injector_state(kube: Kube) -> InjectorState:
    """Read the webhooks' caBundles, and create a pod in a dry run. Raises `NotReady` without an injection webhook."""
    webhooks = _webhooks(kube)
    if not webhooks:
        raise NotReady(f"injection webhook on {kube.name}", "does not exist", "check the output of istioctl install")
    bundles = (webhook["clientConfig"].get("caBundle") for webhook in webhooks)
    pod, words = new_pod(kube)
    return InjectorState(ca_bundles=tuple(dict.fromkeys(b for b in bundles if b)), pod=pod, words=words)


def _webhooks(kube: Kube) -> list[Json]:
    found = kube.list("MutatingWebhookConfiguration", labels=INJECTOR_LABEL)
    return [webhook for configuration in found for webhook in configuration.get("webhooks", [])]


def new_pod(kube: Kube, namespace: str = CLIENT_NAMESPACE) -> tuple[DryRun, str]:
    """What would happen to a new pod, from a dry run that calls webhooks but creates nothing.

    Raises `NotYet` if it is denied for another reason than injection (a missing service account), and `Refused` if that
    is a rule of the cluster's, which will deny it again.
    """
    pod = dry_run_pod("meshproof-injection-probe", namespace, {"name": "probe", "image": "probe"})
    try:
        answer = dry_run(kube, pod)
    except ApiError as problem:
        raise NotYet(problem.reason) from None
    if answer.verdict is DryRun.REFUSED and is_refused_for_good(answer.words):
        raise Refused(f"a new pod in {namespace} on {kube.name}", answer.words, POLICY_REPAIR)
    if answer.verdict is DryRun.REFUSED and "webhook" not in answer.words:
        raise NotYet(answer.words)
    return answer.verdict, answer.words


def state_before(kube: Kube, *, aborted: threading.Event) -> InjectorState:
    """The current state of injection, as soon as the namespace accepts pods."""
    return _eventually(kube, lambda: injector_state(kube), what="state of injection", timeout_s=30, aborted=aborted)


def wait_for_injection(kube: Kube, namespaces: tuple[str, ...], *, timeout_s: float, aborted: threading.Event) -> None:
    """Wait until pods can be created: istiod's root is in the namespaces, and a dry run adds a sidecar."""
    for namespace in namespaces:
        until(
            kube,
            "ConfigMap",
            ROOT_MAP,
            namespace,
            lambda found: True if found and any(found.get("data", {}).values()) else None,
            what=f"ConfigMap {namespace}/{ROOT_MAP}",
            timeout_s=timeout_s,
            aborted=aborted,
            repair=ROOT_CONFIGMAP_REPAIR,
        )

    def injected() -> InjectorState:
        state = injector_state(kube)
        if state.pod is not DryRun.ACCEPTED:
            raise NotYet(f"a new pod is {state.pod}{f': {state.words}' if state.words else ''}")
        return state

    _eventually(kube, injected, what="injection", timeout_s=timeout_s, aborted=aborted)


def _eventually(
    kube: Kube, check: Callable[[], InjectorState], *, what: str, timeout_s: float, aborted: threading.Event
) -> InjectorState:
    def unless_aborted() -> InjectorState:
        if aborted.is_set():
            raise Aborted(f"{what} on {kube.name}", "cancelled because another step had failed")
        return check()

    return eventually(unless_aborted, what=f"{what} on {kube.name}", timeout_s=timeout_s, poll_s=0.3)
