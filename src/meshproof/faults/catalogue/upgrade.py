"""Faults with symptoms only in an upgrade: the mesh is healthy, but not ready for the next release."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final

import yaml

from meshproof.claims.claim import TWO_PRIMARIES
from meshproof.clients.istio.release_notes import REMOVED
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import core
from meshproof.core import names
from meshproof.core.errors import Unavailable
from meshproof.core.option_names import ISTIO_VERSION_FLAG, UPGRADE_TO_FLAG
from meshproof.core.versions import Version, next_release
from meshproof.faults.catalogue.common import HAS_INGRESS, READER_ROLE, config, gateway_deployment_key, ingress_of
from meshproof.faults.catalogue.trust import near_ends_in
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault
from meshproof.faults.undo import ISTIOD
from meshproof.health.mesh import must_be_healthy
from meshproof.providers.lab.build.istio_releases import RELEASES, find_release
from meshproof.workloads.app import app_deployment_name

TAG: Final = "prod"
GONE: Final = "1-20"
"""A revision that is not installed."""
DURING: Final = timedelta(days=45)
"""Longer than TRUST-01 requires, and shorter than an upgrade may take."""
SWITCH: Final = REMOVED[-1]


def _tag_to_nowhere(editor: JournalledEditor) -> None:
    editor.add(editor.near, _tag(GONE))


def _second_tag(editor: JournalledEditor) -> None:
    _require_upgrade_target(editor)
    editor.add(editor.near, _tag(editor.near.spec.revision))


def _require_upgrade_target(editor: JournalledEditor) -> None:
    """Faults detected during the upgrade need a mesh that can be upgraded here."""
    version = editor.mesh.toolbox.istio_version
    if find_release(next_release(version)) is None:
        raise Unavailable(
            f"an upgrade from {version}",
            f"the lab can build only {', '.join(map(str, RELEASES))}",
            f"start with {ISTIO_VERSION_FLAG}={RELEASES[0]} {UPGRADE_TO_FLAG}={RELEASES[-1]}",
        )


def _tag(revision: str) -> Json:
    """The webhook that `istioctl tag set prod --revision=REVISION` creates (istioctl/pkg/tag/generate.go)."""
    istiod = names.of_revision(names.ISTIOD, revision)
    service = {"name": istiod, "namespace": names.SYSTEM_NAMESPACE, "path": "/inject", "port": 443}
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    hook = {
        "name": "rev.namespace.sidecar-injector.istio.io",
        "clientConfig": {"service": service},
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {
            "matchExpressions": [
                {"key": names.REVISION_LABEL, "operator": "In", "values": [TAG]},
                {"key": "istio-injection", "operator": "DoesNotExist"},
            ]
        },
    }
    labels = {"app": "sidecar-injector", names.TAG_LABEL: TAG, names.REVISION_LABEL: revision}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": f"istio-revision-tag-{TAG}", "labels": labels},
        "webhooks": [hook],
    }


def _namespace_left_behind(editor: JournalledEditor) -> None:
    labels = {names.REVISION_LABEL: GONE}
    editor.add(editor.near, core("Namespace", {"name": "removed-revision", "labels": labels}))


def _gateway_left_behind(editor: JournalledEditor) -> None:
    """The running pod continues; its replacement would not be injected and have no image."""

    def change(deployment: Json) -> None:
        deployment["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL] = GONE

    editor.edit(editor.near, *gateway_deployment_key(ingress_of(editor.near)), change)


def _setting_by_hand(editor: JournalledEditor) -> None:
    """Changed in the ConfigMap that istioctl writes, and not in the input of istioctl."""
    _require_upgrade_target(editor)

    def change(config_map: Json) -> None:
        settings = yaml.safe_load(config_map["data"]["mesh"])
        config_map["data"]["mesh"] = yaml.safe_dump(settings | {"accessLogFile": "/dev/stdout"})

    name = names.of_revision(names.MESH_CONFIG, editor.near.spec.revision)
    editor.edit(editor.near, "ConfigMap", name, names.SYSTEM_NAMESPACE, change)


def _gateway_that_stops_first(editor: JournalledEditor) -> None:
    _require_upgrade_target(editor)

    def change(deployment: Json) -> None:
        deployment["spec"]["strategy"] = {"type": "Recreate"}

    editor.edit(editor.near, *gateway_deployment_key(ingress_of(editor.near)), change)


def _outdated_reader_role(editor: JournalledEditor) -> None:
    """The role of primaries from before istiods read the mesh configuration of other clusters."""

    def change(role: Json) -> None:
        for rule in role["rules"]:
            if "pods" in rule.get("resources", []):
                rule["resources"] = [resource for resource in rule["resources"] if resource != "configmaps"]

    name = f"{names.of_revision(READER_ROLE, editor.far.spec.revision)}-{names.SYSTEM_NAMESPACE}"
    editor.edit(editor.far, "ClusterRole", name, None, change)


def _filter_for_new_proxies(editor: JournalledEditor) -> None:
    """Running proxies do not get it; those of the next release would reject it."""
    following = next_release(editor.mesh.toolbox.istio_version).replace(".", r"\.")
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "proxy": {"proxyVersion": rf"^{following}.*"}},
        "patch": {"operation": "INSERT_BEFORE", "value": {"name": "envoy.filters.http.buffer"}},
    }
    for primary in editor.mesh.primaries:
        editor.add(primary, config("EnvoyFilter", "meshproof-for-new-proxies", {"configPatches": [patch]}))


def _switch_that_goes(editor: JournalledEditor) -> None:
    version = Version.parse(editor.mesh.toolbox.istio_version)
    if version is None or version.ahead_of(SWITCH.since) != -1:
        raise Unavailable(
            f"fault with {SWITCH.name} on Istio {editor.mesh.toolbox.istio_version}",
            f"the setting was removed in {SWITCH.since}; none is known to be removed in the next release",
            f"use a mesh of the release before {SWITCH.since}",
        )

    def change(deployment: Json) -> None:
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [*(container.get("env") or []), {"name": SWITCH.name, "value": "false"}]

    name = names.of_revision(names.ISTIOD, editor.near.spec.revision)
    editor.edit(editor.near, "Deployment", name, names.SYSTEM_NAMESPACE, change)
    editor.restart((editor.near,), ISTIOD)


def _outdated_proxy(editor: JournalledEditor) -> None:
    """Like a pod that was not restarted in the last upgrade. Its proxy only reports the version; it is not older."""
    version = Version.parse(editor.mesh.toolbox.istio_version)
    if version is None or version.minor == 0:
        raise Unavailable(
            f"a proxy older than {editor.mesh.toolbox.istio_version}",
            "there is no earlier release",
            "use a later release",
        )
    proxy_config = {"proxyMetadata": {"ISTIO_META_ISTIO_VERSION": f"{version.major}.{version.minor - 1}.0"}}

    def change(deployment: Json) -> None:
        annotations = deployment["spec"]["template"]["metadata"].setdefault("annotations", {})
        annotations["proxy.istio.io/config"] = json.dumps(proxy_config)

    name = app_deployment_name(editor.near.spec)
    editor.edit(editor.near, "Deployment", name, names.APP_NAMESPACE, change)
    must_be_healthy(editor.mesh)


def _expires_during_upgrade(editor: JournalledEditor) -> None:
    near_ends_in(editor, DURING)


UPGRADE: Final = (
    Fault(
        id="U1",
        sentence="a revision tag refers to a revision that is not installed",
        seen="nothing until a namespace uses the tag; then no pod can be created in it",
        source="istio.io, Canary Upgrades: stable revision labels; a tag not moved before the uninstall",
        kills=("UPGRADE-01",),
        also=("TRUST-09",),  # reads the certificate of every service that a webhook calls
        inject=_tag_to_nowhere,
    ),
    Fault(
        id="U4",
        sentence="the reader role of a cluster is from an old release, so other istiods may not read its ConfigMaps",
        seen="the trust domain of that cluster is unknown; valid certificates are rejected",
        source="istio.io, 1.30.0 Change Notes; istio/istio issue 59474",
        needs=(TWO_PRIMARIES,),
        kills=("UPGRADE-01",),
        also=("DISCOVERY-04",),  # checks the rights of the token
        inject=_outdated_reader_role,
    ),
    Fault(
        id="U5",
        sentence="an EnvoyFilter has a patch that proxies of the next release reject",
        seen="nothing until the first pod with a new proxy, which does not become ready",
        source="istio/istio, releasenotes/notes/no_extension_lookup_by_name.yaml",
        kills=("UPGRADE-01",),
        inject=_filter_for_new_proxies,
    ),
    Fault(
        id="U6",
        sentence="istiod has a setting that the next release no longer reads",
        seen="a disabled feature is enabled after the upgrade",
        source="istio.io, 1.31 Upgrade Notes; releasenotes/notes/remove-spawn-upstream-span-for-gateway.yaml",
        kills=("UPGRADE-01",),
        note="applies to a mesh of 1.30 only",
        inject=_switch_that_goes,
    ),
    Fault(
        id="U7",
        sentence="an intermediate certificate expires in 45 days, possibly during an upgrade",
        seen="nothing until it expires; then certificates of all proxies become invalid during the upgrade",
        source="istio.io, Plug in CA Certificates",
        kills=("UPGRADE-01",),
        inject=_expires_during_upgrade,
    ),
    Fault(
        id="U8",
        sentence="a second tag still refers to a control plane that is uninstalled in the upgrade",
        seen="nothing until a namespace uses the tag; then no pod can be created in it",
        source="istio.io, Canary Upgrades: stable revision labels",
        kills=("UPGRADE-03", "UPGRADE-05"),  # TRUST-09 reads the certificate of every service that a webhook calls
        inject=_second_tag,
    ),
    Fault(
        id="U9",
        sentence="a mesh setting was changed by hand, and not in the input of the installer",
        seen="the setting, here the access log, is lost in the upgrade",
        source="istio.io, In-place Upgrades: the same configuration must be given to the new istioctl",
        kills=("UPGRADE-02",),
        inject=_setting_by_hand,
    ),
    Fault(
        id="U10",
        sentence="a gateway's Deployment stops its pod before the replacement is ready",
        seen="requests are refused for some seconds at every restart",
        source="kubernetes.io, Deployments: strategy Recreate; istio.io, Gateways: upgrading them",
        needs=(HAS_INGRESS,),
        kills=("UPGRADE-03", "UPGRADE-04"),
        inject=_gateway_that_stops_first,
    ),
    Fault(
        id="U11",
        sentence="a namespace still has the label of a removed revision",
        seen="nothing until its pods restart; then they have no sidecar and use plain text",
        source="istio.io, Canary Upgrades: data plane",
        kills=("UPGRADE-01",),
        inject=_namespace_left_behind,
    ),
    Fault(
        id="U12",
        sentence="a gateway still has the label of a removed revision",
        seen="nothing until its pod restarts; then it has no container image",
        source="istio.io, Canary Upgrades: data plane; Gateways: revision label of the pods",
        needs=(HAS_INGRESS,),
        kills=("UPGRADE-01",),
        also=("CONTROL-05", "CONTROL-07", "DISCOVERY-05"),
        inject=_gateway_left_behind,
    ),
    Fault(
        id="U13",
        sentence="a proxy is one release behind its istiod, so the target would be two releases ahead",
        seen="unsupported version skew: the new istiod may send configuration that the old proxy does not understand",
        source="istio.io, Supported Releases: Control Plane/Data Plane Skew",
        kills=("UPGRADE-01",),
        inject=_outdated_proxy,
    ),
)
