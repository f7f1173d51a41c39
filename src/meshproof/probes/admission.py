"""Admission results for a new pod in an injected namespace and for Istio configuration, from server-side dry runs.

A dry run goes through the same webhooks (they declare `sideEffects: None`) and stores nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshproof.clients.kubernetes.client import ApiError, Json, Kube, path_of
from meshproof.clients.kubernetes.pods import dry_run_pod
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import SERVICE_OF_SLICE, live_services, pod_facts

VALIDATOR: Final = "validation.istio.io"
"""Webhook by which istiod validates all configuration (chart base); a revision's webhook gets labelled objects only."""


class DryRun(StrEnum):
    """Result of a dry run. `BARE` is a pod that would start without a proxy."""

    ACCEPTED = "accepted"
    BARE = "accepted without a proxy"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A dry run's result, and the API server's message if it was denied."""

    verdict: DryRun
    words: str = ""

    @property
    def by_webhook(self) -> bool:
        """Whether a webhook could not be called (k8s.io/apiserver, pkg/admission/plugin/webhook/errors)."""
        return self.verdict is DryRun.REFUSED and "failed calling webhook" in self.words

    def __str__(self) -> str:
        return f"{self.verdict} ({self.words[:200]})" if self.words else str(self.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """One cluster's results. `guarded` is whether a validation webhook of istiod fails closed there.

    istiod sets the webhook of its own cluster to `Fail`; that of a remote stays `Ignore`, and configuration written
    there has no effect anyway.
    """

    pod: Answer
    good_config: Answer
    bad_config: Answer
    guarded: bool

    @classmethod
    def ask(cls, cluster: Cluster, image: str) -> Admission:
        """Run all dry runs at once: each call of an unresponsive webhook has a timeout of 10 s."""
        kube = cluster.kube
        good = _rule("meshproof-good", {"tcp": {"maxConnections": 100}})
        bad = _rule("meshproof-bad", {"tcp": {"maxConnections": -1}})
        pod, good_config, bad_config = together(lambda manifest: dry_run(kube, manifest), (_pod(image), good, bad))
        return cls(pod=pod, good_config=good_config, bad_config=bad_config, guarded=_is_guarded(kube))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigAdmission:
    """One cluster's results for a valid and an invalid object, and the targets of Istio's validation webhooks.

    `targets` maps each webhook to its service (`namespace/name` or a URL); `dead` has those without ready endpoints.
    """

    good: Answer
    bad: Answer
    guarded: bool
    targets: Mapping[str, str]
    dead: Mapping[str, str]

    @classmethod
    def ask(cls, cluster: Cluster) -> ConfigAdmission:
        kube = cluster.kube
        targets = _targets(kube)
        live = {target: _is_live(kube, target) for target in set(targets.values()) if "://" not in target}
        return cls(
            good=dry_run(kube, _rule("meshproof-good", {"tcp": {"maxConnections": 100}})),
            bad=dry_run(kube, _rule("meshproof-bad", {"tcp": {"maxConnections": -1}})),
            guarded=_is_guarded(kube),
            targets=targets,
            dead={hook: target for hook, target in targets.items() if not live.get(target, True)},
        )


def _targets(kube: Kube) -> dict[str, str]:
    found = {}
    for configuration in kube.list("ValidatingWebhookConfiguration"):
        for hook in configuration.get("webhooks") or []:
            service = (hook.get("clientConfig") or {}).get("service")
            if not str(hook.get("name", "")).endswith(VALIDATOR):
                continue
            name = f"{configuration['metadata']['name']} {hook['name']}"
            found[name] = f"{service['namespace']}/{service['name']}" if service else hook["clientConfig"]["url"]
    return found


def _is_live(kube: Kube, service: str) -> bool:
    namespace, _, name = service.partition("/")
    slices = kube.list("EndpointSlice", namespace, labels=f"{SERVICE_OF_SLICE}={name}")
    return service in live_services(slices)


def dry_run(kube: Kube, manifest: Json) -> Answer:
    """Create it in a dry run. Raises `ApiError` for errors other than admission's (HTTP 401, 429)."""
    path = path_of(manifest["kind"], manifest["metadata"]["namespace"])
    try:
        answer = json.loads(kube.request("POST", path, body=manifest, query={"dryRun": "All"}, timeout_s=30))
    except ApiError as problem:
        if problem.status in (401, 429):
            raise
        return Answer(verdict=DryRun.REFUSED, words=problem.reason)
    if manifest["kind"] == "Pod" and not pod_facts(answer).has_proxy:
        return Answer(verdict=DryRun.BARE)
    return Answer(verdict=DryRun.ACCEPTED)


def _is_guarded(kube: Kube) -> bool:
    return any(
        hook.get("name") == VALIDATOR and hook.get("failurePolicy") == "Fail"
        for configuration in kube.list("ValidatingWebhookConfiguration")
        for hook in configuration.get("webhooks") or []
    )


def _pod(image: str) -> Json:
    container = {"name": names.CLIENT_POD, "image": image, "command": ["sleep", "1"]}
    return dry_run_pod("meshproof-dry-run", names.CLIENT_NAMESPACE, container)


def _rule(name: str, pool: Json) -> Json:
    """A DestinationRule for an unused host; a negative number passes the CRD's schema but not istiod."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": names.CLIENT_NAMESPACE},
        "spec": {"host": "meshproof.invalid", "trafficPolicy": {"connectionPool": pool}},
    }
