"""Existing clusters, by the contexts of a kubeconfig: checked for access, and left unchanged."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import yaml

from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json, Kube
from meshproof.clients.kubernetes.rbac import NEEDED, AccessRule, missing_rights
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput, NotReady
from meshproof.core.model import ClusterName, PullSecret, Topology
from meshproof.core.progress import Narrator
from meshproof.mesh.access import ClusterAccess, Toolbox
from meshproof.mesh.machine_control import MachineControl
from meshproof.providers.contexts import Attachment, NamedContext
from meshproof.providers.lab.build.go import built
from meshproof.providers.proxy_image import ProxyImage, proxy_images
from meshproof.providers.release import release_toolbox

NAME: Final = "kubeconfig"


class KubeconfigClusters:
    """Clusters of a kubeconfig; a `Provider` that neither creates nor changes them."""

    name = NAME

    def __init__(self, clusters: tuple[ClusterAccess, ...], toolbox: Toolbox) -> None:
        self.clusters = clusters
        self.toolbox = toolbox

    @property
    def machine_control(self) -> MachineControl | None:
        return None

    def connect(self, topology: Topology) -> None:
        """Does nothing: the network between these clusters is their owner's."""

    def problems(self) -> tuple[str, ...]:
        """Nothing: the infrastructure of these clusters is not visible from here."""
        return ()


@contextmanager
def open_kubeconfig(
    attachment: Attachment,
    topology: Topology,
    narrator: Narrator,
    *,
    rules: Sequence[AccessRule] = NEEDED,
    installs: bool = False,
) -> Iterator[KubeconfigClusters]:
    """The clusters of `topology` from `attachment`, checked to be reachable, distinct, and with all rights.

    With `installs` the toolbox is that of the release to be installed, else that of the existing mesh.
    Raises `BadInput` with the context, the reason, and the repair.
    """
    chosen = ProbeImages(images={})
    with narrator.step(f"clusters of {attachment.source}"):
        kubes = greeted(attachment, [cluster.name for cluster in topology.clusters], rules)
        together(lambda kube: _must_have(kube, attachment.pull_secret), kubes)
        if installs:
            toolbox = release_toolbox(attachment.istioctl, attachment.images, attachment.istio_values)
        else:
            chosen = probe_images(attachment, kubes)
            revisions = {cluster.revision for cluster in topology.clusters}
            toolbox = replace(reading_toolbox(attachment, kubes, revisions), images=dict(chosen.images))
        accesses = tuple(access_of(kube, pull_secret=attachment.pull_secret) for kube in kubes)
    for kube in kubes:
        narrator.say(f"  {kube.name} is context {kube.context}, {kube.server}")
    for line in chosen.reasons:
        narrator.say(f"  {line}")
    yield KubeconfigClusters(accesses, toolbox)


def greeted(attachment: Attachment, clusters: Sequence[ClusterName], rules: Sequence[AccessRule] = ()) -> list[Kube]:
    """A client for each cluster, checked to respond, authenticate us, grant `rules`, and be distinct.

    Raises `BadInput` with all missing rights of all clusters.
    """
    kubes = _kubes(attachment, clusters)
    missing = together(lambda kube: _greet(kube, rules), kubes)
    if lacking := {kube: rights for kube, rights in zip(kubes, missing, strict=True) if rights}:
        raise _lacking(lacking)
    _must_be_different(kubes)
    return kubes


def access_of(kube: Kube, *, server_for_peers: str = "", pull_secret: PullSecret | None = None) -> ClusterAccess:
    """The access to a cluster through that client; peers use the kubeconfig's server if no other is given."""
    return ClusterAccess(
        name=ClusterName(kube.name),
        kubeconfig=kube.kubeconfig,
        context=kube.context,
        server_for_peers=server_for_peers or kube.server,
        kube=kube,
        pull_secret=pull_secret,
    )


# -- contexts
# ------------------------------------------------------------------------------------------------------------


def _kubes(attachment: Attachment, clusters: Iterable[ClusterName]) -> list[Kube]:
    known = contexts_in(attachment.files)
    contexts = {cluster: _context(attachment, cluster, known).name for cluster in clusters}
    return [Kube(attachment.kubeconfig, context, name=cluster) for cluster, context in contexts.items()]


def _context(attachment: Attachment, cluster: ClusterName, known: Sequence[str]) -> NamedContext:
    there = f"contexts in {attachment.source}: {', '.join(known) or 'none'}"
    chosen = attachment.contexts.get(cluster)
    if chosen is None and cluster not in known:
        raise BadInput(f"cluster {cluster}", "its context is unknown", f"use --context={cluster}=CONTEXT; {there}")
    chosen = chosen or NamedContext(name=cluster, source=f"cluster {cluster}")
    if chosen.name not in known:
        raise BadInput(chosen.source, f"there is no context {chosen.name}", f"name another; {there}")
    return chosen


def contexts_in(files: Iterable[Path]) -> list[str]:
    """The names of the contexts in kubeconfigs. Raises `BadInput` if one of them cannot be read."""
    found: dict[str, None] = {}
    for file in files:
        try:
            config = yaml.safe_load(file.read_text())
            found.update(dict.fromkeys(str(entry["name"]) for entry in config.get("contexts") or []))
        except (OSError, UnicodeDecodeError) as problem:
            raise BadInput(f"kubeconfig {file}", f"cannot be read: {problem}", "name another one") from None
        except (yaml.YAMLError, AttributeError, KeyError, TypeError):
            # Its content is not quoted: parser errors may contain a key or a token.
            raise BadInput(f"kubeconfig {file}", "it is not a kubeconfig", "name another one") from None
    return list(found)


# -- access checks
# ---------------------------------------------------------------------------------------------------------


def _greet(kube: Kube, rules: Sequence[AccessRule]) -> list[str]:
    """Check that an API server responds and authenticates us; returns the missing rights."""
    what = f"context {kube.context} for {kube.name}"
    by_hand = f"check with `kubectl --context={kube.context} get namespaces`"
    try:
        kube.get("/version")
        return missing_rights(kube, rules)
    except NotReady as problem:
        reason = f"its API server {kube.server} does not respond: {problem.reason.removeprefix('no response: ')}"
        raise BadInput(what, reason, f"{by_hand}: VPN, proxy, or a deleted cluster?") from None
    except ApiError as problem:
        if problem.status not in (401, FORBIDDEN):
            raise
        reason = f"its API server {kube.server} rejects these credentials ({problem.reason})"
        raise BadInput(what, reason, f"log in again; {by_hand}") from None


def _lacking(rights: Mapping[Kube, list[str]]) -> BadInput:
    """All in one error, so that they can be requested at once."""
    listed = "".join(
        f"\n  - context {kube.context} for {kube.name} may not {', '.join(missing)}" for kube, missing in rights.items()
    )
    return BadInput(
        "rights on the clusters",
        f"some are missing:{listed}",
        "apply deploy/clusterrole.yaml (docs/attach.md)",
    )


def _must_have(kube: Kube, secret: PullSecret | None) -> None:
    if secret is not None and kube.find("Secret", secret.name, secret.namespace) is None:
        raise BadInput(
            f"--image-pull-secret={secret}",
            f"{kube.name} has no such secret",
            "create it in every cluster, or omit the option",
        )


def _must_be_different(kubes: Sequence[Kube]) -> None:
    """Two contexts may be of one cluster; a mesh of a cluster with itself would prove nothing."""
    uids = together(_uid, kubes)
    seen: dict[str, Kube] = {}
    for kube, uid in zip(kubes, uids, strict=True):
        other = seen.setdefault(uid, kube)
        if other is not kube:
            raise BadInput(
                f"contexts {other.context} and {kube.context}",
                f"both are the same cluster, but {other.name} and {kube.name} must be different",
                f"name the contexts with --context={kube.name}=CONTEXT",
            )


def _uid(kube: Kube) -> str:
    return str((kube.find("Namespace", "kube-system") or {}).get("metadata", {}).get("uid", kube.server))


# -- toolbox ----------------------------------------------------------------------------------------------------------

_FLAGS: Final = {"client": "--client-image", "app": "--app-image"}
_SEEN_IN: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = {
    "client": (
        (names.CLIENT_NAMESPACE, f"app={names.CLIENT_POD}", names.CLIENT_POD),
        (names.OUTSIDE_NAMESPACE, f"app={names.CLIENT_POD}", names.CLIENT_POD),
    ),
    "app": ((names.APP_NAMESPACE, f"app={names.APP_SERVICE}", names.APP_SERVICE),),
}
"""Pods whose images probes can use: namespace, label, container."""


def reading_toolbox(attachment: Attachment, kubes: Sequence[Kube], revisions: Set[str]) -> Toolbox:
    """The toolbox for read-only commands: without images, since there are no probes."""
    hub, tag = _istiod_image(kubes, revisions)
    return Toolbox(
        istioctl=attachment.istioctl or _find_istioctl(),
        istio_version=tag,
        hub=hub,
        tag=tag,
        images={},
        istio_values={},
        data_plane="as installed on these clusters",
    )


def _find_istioctl() -> Path | None:
    found = shutil.which("istioctl")
    return Path(found) if found else built("istioctl")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeImages:
    """The images of probes, by purpose, and in a line each why those are taken that no option names."""

    images: Mapping[str, str]
    reasons: tuple[str, ...] = ()


def probe_images(attachment: Attachment, kubes: Sequence[Kube]) -> ProbeImages:
    """Those that options name, else those of probe pods that are there, else the mesh's own proxy image.

    Raises `BadInput` if the proxies' image lacks what probes run.
    """
    images = dict(attachment.images)
    reasons = []
    for purpose, places in _SEEN_IN.items():
        if purpose not in images and (seen := _seen(kubes, places)):
            images[purpose] = seen
            reasons.append(f"image of the {purpose} probes: {seen}, that of the pods that are there")
    missing = [purpose for purpose in _FLAGS if purpose not in images]
    if missing:
        examined = proxy_images(kubes, missing)
        fitting = next((proxy for proxy in examined if proxy.fits(missing)), None)
        if fitting is None:
            raise _no_image(missing, examined)
        images |= dict.fromkeys(missing, fitting.image)
        reasons.append(fitting.reason(missing))
    return ProbeImages(images=images, reasons=tuple(reasons))


def _no_image(purposes: Sequence[str], examined: Sequence[ProxyImage]) -> BadInput:
    """An option is needed for those purposes only for which no examined image will do."""
    without = [each for each in purposes if not any(proxy.fits([each]) for proxy in examined)] or list(purposes)
    flags = " and ".join(f"{_FLAGS[purpose]}=IMAGE" for purpose in without)
    refusals = "; ".join(proxy.refusal() for proxy in examined) or "the mesh has no running proxy to take one from"
    return BadInput(
        f"images of the {' and '.join(without)} probes",
        f"no pod on these clusters has a suitable image: {refusals}",
        f"use {flags} (pytest --help lists what must be in it)",
    )


def _seen(kubes: Sequence[Kube], places: Iterable[tuple[str, str, str]]) -> str:
    """Not those of pods that are being removed, such as an earlier run's."""
    for namespace, labels, container in places:
        pods = [pod for pod in _pods(kubes, namespace, labels) if "deletionTimestamp" not in pod["metadata"]]
        if found := images_of(pods, container):
            return found[0]
    return ""


def _pods(kubes: Sequence[Kube], namespace: str, labels: str) -> list[Json]:
    return [pod for pods in together(lambda kube: kube.list("Pod", namespace, labels=labels), kubes) for pod in pods]


def images_of(pods: Iterable[Json], container: str) -> list[str]:
    """The images of the containers of that name."""
    return [str(c["image"]) for pod in pods for c in pod["spec"]["containers"] if c["name"] == container]


def _istiod_image(kubes: Sequence[Kube], revisions: Set[str]) -> tuple[str, str]:
    """Hub and tag of a running istiod, preferably of these revisions; empty if there is none: whether that
    is an error is decided elsewhere."""
    pods = _pods(kubes, names.SYSTEM_NAMESPACE, "app=istiod")
    pods.sort(key=lambda pod: (pod["metadata"].get("labels") or {}).get(names.REVISION_LABEL) not in revisions)
    found = images_of(pods, "discovery")
    return hub_and_tag(found[0]) if found else ("", "")


_IMAGE: Final = re.compile(r"(?:(?P<hub>.*)/)?[^/:@]+(?::(?P<tag>[^/@]+))?(?:@(?P<digest>.*))?")


def hub_and_tag(image: str) -> tuple[str, str]:
    """`registry/istio/pilot:1.31.0` is `registry/istio` and `1.31.0`; without a tag its digest is used."""
    match = _IMAGE.fullmatch(image)
    return (match["hub"] or "", match["tag"] or match["digest"] or "") if match else ("", "")
