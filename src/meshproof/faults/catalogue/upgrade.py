"""Faults that show in an upgrade only: the mesh is healthy with them, and is not ready for the next release."""

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
from meshproof.faults.catalogue.common import HAS_INGRESS, READER_ROLE, config, gateway_deployment, ingress_of
from meshproof.faults.catalogue.trust import near_ends_in
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault
from meshproof.faults.undo import ISTIOD
from meshproof.health.mesh import must_be_healthy
from meshproof.providers.lab.build.istio_releases import RELEASES, find_release
from meshproof.workloads.app import app_deployment_name

TAG: Final = "prod"
GONE: Final = "1-20"
"""A revision that nobody has installed."""
DURING: Final = timedelta(days=45)
"""Later than what TRUST-01 asks for, and sooner than an upgrade may take."""
SWITCH: Final = REMOVED[-1]


def _tag_to_nowhere(editor: JournalledEditor) -> None:
    editor.add(editor.near, _tag(GONE))


def _second_tag(editor: JournalledEditor) -> None:
    _must_be_able_to_go_on(editor)
    editor.add(editor.near, _tag(editor.near.spec.revision))


def _must_be_able_to_go_on(editor: JournalledEditor) -> None:
    """What shows in the upgrade itself needs a mesh that can be upgraded here."""
    version = editor.mesh.toolbox.istio_version
    if find_release(next_release(version)) is None:
        raise Unavailable(
            f"an upgrade from {version}",
            f"the lab can build {', '.join(map(str, RELEASES))} only",
            f"begin with {ISTIO_VERSION_FLAG}={RELEASES[0]} {UPGRADE_TO_FLAG}={RELEASES[-1]}",
        )


def _tag(revision: str) -> Json:
    """As `istioctl tag set prod --revision=REVISION` leaves it (istioctl/pkg/tag/generate.go)."""
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
    editor.add(editor.near, core("Namespace", {"name": "shop-of-yesterday", "labels": labels}))


def _gateway_left_behind(editor: JournalledEditor) -> None:
    """Its running pod goes on; the one that should take its place is not injected, and has no image."""

    def change(deployment: Json) -> None:
        deployment["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL] = GONE

    editor.edit(editor.near, *gateway_deployment(ingress_of(editor.near)), change)


def _setting_by_hand(editor: JournalledEditor) -> None:
    """In the ConfigMap that istioctl writes, and not in what istioctl is given."""
    _must_be_able_to_go_on(editor)

    def change(config_map: Json) -> None:
        settings = yaml.safe_load(config_map["data"]["mesh"])
        config_map["data"]["mesh"] = yaml.safe_dump(settings | {"accessLogFile": "/dev/stdout"})

    name = names.of_revision(names.MESH_CONFIG, editor.near.spec.revision)
    editor.edit(editor.near, "ConfigMap", name, names.SYSTEM_NAMESPACE, change)


def _gateway_that_stops_first(editor: JournalledEditor) -> None:
    _must_be_able_to_go_on(editor)

    def change(deployment: Json) -> None:
        deployment["spec"]["strategy"] = {"type": "Recreate"}

    editor.edit(editor.near, *gateway_deployment(ingress_of(editor.near)), change)


def _reader_of_before(editor: JournalledEditor) -> None:
    """The role that primaries had before istiods read the mesh configuration of other clusters."""

    def change(role: Json) -> None:
        for rule in role["rules"]:
            if "pods" in rule.get("resources", []):
                rule["resources"] = [resource for resource in rule["resources"] if resource != "configmaps"]

    name = f"{names.of_revision(READER_ROLE, editor.far.spec.revision)}-{names.SYSTEM_NAMESPACE}"
    editor.edit(editor.far, "ClusterRole", name, None, change)


def _filter_for_new_proxies(editor: JournalledEditor) -> None:
    """The proxies that run are not given it; those of the next release would refuse it."""
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
            f"{SWITCH.name} on the way from {editor.mesh.toolbox.istio_version}",
            f"it goes with {SWITCH.since}, and no switch is known to go with the release after this one",
            f"use a mesh of the release before {SWITCH.since}",
        )

    def change(deployment: Json) -> None:
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [*(container.get("env") or []), {"name": SWITCH.name, "value": "false"}]

    name = names.of_revision(names.ISTIOD, editor.near.spec.revision)
    editor.edit(editor.near, "Deployment", name, names.SYSTEM_NAMESPACE, change)
    editor.restart((editor.near,), ISTIOD)


def _proxy_of_before(editor: JournalledEditor) -> None:
    """As a pod that was not restarted in the last upgrade. Its proxy only tells so: the lab has no older one."""
    version = Version.parse(editor.mesh.toolbox.istio_version)
    if version is None or version.minor == 0:
        raise Unavailable(
            f"a proxy older than {editor.mesh.toolbox.istio_version}", "no release is before it", "use a later release"
        )
    told = {"proxyMetadata": {"ISTIO_META_ISTIO_VERSION": f"{version.major}.{version.minor - 1}.0"}}

    def change(deployment: Json) -> None:
        annotations = deployment["spec"]["template"]["metadata"].setdefault("annotations", {})
        annotations["proxy.istio.io/config"] = json.dumps(told)

    name = app_deployment_name(editor.near.spec)
    editor.edit(editor.near, "Deployment", name, names.APP_NAMESPACE, change)
    must_be_healthy(editor.mesh)


def _ends_on_the_way(editor: JournalledEditor) -> None:
    near_ends_in(editor, DURING)


UPGRADE: Final = (
    Fault(
        id="U1",
        sentence="a tag names a revision that is gone",
        seen="nothing, until a namespace moves to the tag: then no pod can be made in it",
        source="istio.io, Canary Upgrades: stable revision labels; a tag that was not moved before the uninstall",
        kills=("UPGRADE-01",),
        also=("TRUST-09",),  # asks whoever a webhook dials for its certificate
        inject=_tag_to_nowhere,
    ),
    Fault(
        id="U4",
        sentence="a cluster's reader role is that of an old release: other istiods may not read its ConfigMaps",
        seen="the other cluster's trust domain is not known; certificates that should be taken are refused",
        source="istio.io, 1.30.0 Change Notes; istio/istio issue 59474",
        needs=(TWO_PRIMARIES,),
        kills=("UPGRADE-01",),
        also=("DISCOVERY-04",),  # asks what the token may do
        inject=_reader_of_before,
    ),
    Fault(
        id="U5",
        sentence="an EnvoyFilter gives the proxies of the next release what they refuse",
        seen="nothing, until the first pod has a new proxy: it does not get ready",
        source="istio/istio, releasenotes/notes/no_extension_lookup_by_name.yaml",
        kills=("UPGRADE-01",),
        inject=_filter_for_new_proxies,
    ),
    Fault(
        id="U6",
        sentence="istiod has a switch that the next release no longer reads",
        seen="what was switched off is on after the upgrade",
        source="istio.io, 1.31 Upgrade Notes; releasenotes/notes/remove-spawn-upstream-span-for-gateway.yaml",
        kills=("UPGRADE-01",),
        note="only a mesh of 1.30 can have it",
        inject=_switch_that_goes,
    ),
    Fault(
        id="U7",
        sentence="an intermediate ends in 45 days, while an upgrade may still be going on",
        seen="nothing, then certificates of old and new proxies end in the middle of the upgrade",
        source="istio.io, Plug in CA Certificates",
        kills=("UPGRADE-01",),
        inject=_ends_on_the_way,
    ),
    Fault(
        id="U8",
        sentence="a second tag is not moved before the control plane goes that it stands for",
        seen="nothing, until a namespace has pods by that tag: none can be made",
        source="istio.io, Canary Upgrades: stable revision labels",
        kills=("UPGRADE-03", "UPGRADE-05"),  # TRUST-09 asks whoever a webhook dials
        inject=_second_tag,
    ),
    Fault(
        id="U9",
        sentence="a setting of the mesh was made by hand, and not where the installer has it",
        seen="it is gone after the upgrade: here the access log",
        source="istio.io, In-place Upgrades: the same configuration must be given to the new istioctl",
        kills=("UPGRADE-02",),
        inject=_setting_by_hand,
    ),
    Fault(
        id="U10",
        sentence="a gateway's Deployment stops its pod before the next one is there",
        seen="requests are refused for some seconds whenever it is restarted",
        source="kubernetes.io, Deployments: strategy Recreate; istio.io, Gateways: upgrading them",
        needs=(HAS_INGRESS,),
        kills=("UPGRADE-03", "UPGRADE-04"),
        inject=_gateway_that_stops_first,
    ),
    Fault(
        id="U11",
        sentence="a namespace still names a revision that was removed",
        seen="nothing, until its pods are made anew: without a sidecar, in plain text",
        source="istio.io, Canary Upgrades: data plane",
        kills=("UPGRADE-01",),
        inject=_namespace_left_behind,
    ),
    Fault(
        id="U12",
        sentence="a gateway is left on a revision that was removed",
        seen="nothing, until its pod is made anew: without a container image",
        source="istio.io, Canary Upgrades: data plane; Gateways: revision label of the pods",
        needs=(HAS_INGRESS,),
        kills=("UPGRADE-01",),
        also=("CONTROL-05", "CONTROL-07", "DISCOVERY-05"),
        inject=_gateway_left_behind,
    ),
    Fault(
        id="U13",
        sentence="a proxy is one release behind its istiod, and the target is one more ahead",
        seen="nothing that is supported: the new istiod gives an old proxy what it may not understand",
        source="istio.io, Supported Releases: Control Plane/Data Plane Skew",
        kills=("UPGRADE-01",),
        inject=_proxy_of_before,
    ),
)
