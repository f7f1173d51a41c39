"""Every option once, as a record; help, checks and errors derive from it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import yaml

from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import BadInput
from meshproof.core.model import PullSecret, Topology
from meshproof.core.option_names import ISTIO_VERSION_FLAG, KEEP_FLAG, UPGRADE_TO_FLAG
from meshproof.core.path_options import program_file, read_text, writable_folder
from meshproof.core.topology import available, load_topology
from meshproof.core.versions import parse_target
from meshproof.providers.cli_tools.settings import Making, container_runtime
from meshproof.providers.contexts import Attachment, kubeconfig_files, named_contexts
from meshproof.providers.lab.build.istio_releases import release_of

ALL: Final = "all"
LAB: Final = "lab"
ON_KUBECONFIG: Final = "kubeconfig"
KIND: Final = "kind"
GKE: Final = "gke"
PROVIDERS: Final = (LAB, ON_KUBECONFIG, KIND, GKE)
MAKERS: Final = (KIND, GKE)
"""Providers that make clusters with the command-line tools of others."""
INSTALL: Final = "install"
EXISTING: Final = "existing"
MESHES: Final = (INSTALL, EXISTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. An empty `metavar` means a switch; `default` None that it must be given or is derived.

    A `repeated` one may be given several times; its value is a list.
    """

    flag: str
    help: str
    metavar: str = ""
    default: str | None = None
    repeated: bool = False

    @property
    def dest(self) -> str:
        """The name under which pytest keeps its value; prefixed, since other plugins have options too."""
        return "meshproof_" + self.flag.lstrip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        return not self.metavar


TOPOLOGY: Final = Option(
    flag="--topology",
    metavar="NAME|FILE|all",
    help=f"which mesh to build and prove: {', '.join(available())}, a YAML file of your own, or all of these in turn "
    "on the same clusters",
)
PROVIDER: Final = Option(
    flag="--provider",
    metavar="NAME",
    help=f"where clusters come from: {LAB} starts them on this machine, {ON_KUBECONFIG} takes those that exist, {KIND} "
    f"and {GKE} make them with kind and gcloud (default: {LAB}, or {ON_KUBECONFIG} with one of its options, or with "
    "contexts in the topology's file)",
)
LAB_NAME: Final = Option(
    flag="--lab-name",
    metavar="NAME",
    default="default",
    help=f"which lab to use; a lab that is up is used as it is. With {KIND} and {GKE}: a part of the clusters' names",
)
ISTIO_VERSION: Final = Option(
    flag=ISTIO_VERSION_FLAG,
    metavar="VERSION",
    help="which of the releases of Istio that the lab can build is installed, for example 1.30 or 1.30.4 (default: "
    "that of a lab that is up, the newest, or the one before the version of --upgrade-to)",
)
UPGRADE_TO: Final = Option(
    flag=UPGRADE_TO_FLAG,
    metavar="VERSION",
    help="the version of Istio that UPGRADE claims are about: the check before it, and on the lab the upgrade itself, "
    "in place and by revision, under load",
)
KEEP: Final = Option(flag=KEEP_FLAG, help="leave clusters and mesh for the next run")
PLAN: Final = Option(
    flag="--plan", help="print every command that would be run to get the clusters, and what for, and start nothing"
)
GKE_PROJECT: Final = Option(
    flag="--gke-project", metavar="ID", help=f"the project of the clusters of {GKE} (default: that of gcloud config)"
)
GKE_ZONE: Final = Option(flag="--gke-zone", metavar="ZONE", help="their zone (default: compute/zone of gcloud config)")
REPORT_DIR: Final = Option(
    flag="--report-dir", metavar="FOLDER", help="where verdict and evidence go (default: reports)"
)
OUTAGE: Final = Option(
    flag="--outage",
    metavar="SECONDS",
    default=f"{DEADLINES.outage_s:g}",
    help="how long a stopped control plane stays down in FAILOVER claims (5 to 3600)",
)

MESH: Final = Option(
    flag="--mesh",
    metavar="install|existing",
    help="install: make the mesh, or complete it, and remove it in the end; existing: verify what is there, and change "
    "nothing but probe namespaces, which are removed again "
    f"(default: {EXISTING} on a kubeconfig, {INSTALL} on all others)",
)
KUBECONFIG: Final = Option(
    flag="--kubeconfig",
    metavar="FILE",
    help="where the contexts are; several files joined as in the variable KUBECONFIG (default: KUBECONFIG, or "
    "~/.kube/config)",
)
CLUSTER1_CONTEXT: Final = Option(
    flag="--cluster1-context",
    metavar="CONTEXT",
    help="the context of the topology's first cluster (default: the variable CTX_CLUSTER1, or the context of the "
    "cluster's own name)",
)
CLUSTER2_CONTEXT: Final = Option(
    flag="--cluster2-context", metavar="CONTEXT", help="the same for its second cluster, with CTX_CLUSTER2"
)
CONTEXT: Final = Option(
    flag="--context",
    metavar="CLUSTER=CONTEXT",
    repeated=True,
    help="the context of a cluster by its name in the topology; once for each cluster",
)
ISTIOCTL: Final = Option(
    flag="--istioctl",
    metavar="FILE",
    help="the istioctl that CONTROL-06 judges on a kubeconfig (default: the one in PATH, or the lab's), and that "
    f"installs on {KIND}, {GKE}, and with --mesh={INSTALL} on a kubeconfig, in its own version (default: the one in "
    "PATH)",
)
CLIENT_IMAGE: Final = Option(
    flag="--client-image",
    metavar="IMAGE",
    help="image of probe clients on a kubeconfig, with sh, curl 7.84, openssl, seq and sleep (default: that of the "
    "client pods that are there; where a mesh is installed Istio's proxyv2)",
)
APP_IMAGE: Final = Option(
    flag="--app-image",
    metavar="IMAGE",
    help="image of probe servers on a kubeconfig, with envoy (default: that of the demonstration service's pods that "
    "are there; where a mesh is installed Istio's proxyv2)",
)
ISTIO_VALUES: Final = Option(
    flag="--istio-values",
    metavar="FILE",
    help=f"for --mesh={INSTALL} on a kubeconfig: YAML that is laid over the spec of each cluster's IstioOperator, for "
    "example hub and tag of a registry of one's own, or values.global.imagePullSecrets",
)
IMAGE_PULL_SECRET: Final = Option(
    flag="--image-pull-secret",
    metavar="NAMESPACE/NAME",
    help="the secret with which probe pods on a kubeconfig pull their images; it must be in every cluster, and is "
    "copied into the namespaces that meshproof makes",
)
ALLOW_DISRUPTIVE: Final = Option(
    flag="--allow-disruptive",
    help="let FAILOVER claims stop control planes of clusters that meshproof did not make",
)
ALLOW_CREDENTIALS: Final = Option(
    flag="--allow-credentials",
    help="on clusters that meshproof did not make: let claims make credentials of the mesh for themselves, namely "
    "certificates signed with the key in secret cacerts, and tokens of service accounts",
)
MUTANTS: Final = Option(
    flag="--mutants",
    metavar="ID,ID",
    help="for tests/sensitivity: these faults of `meshproof fault list` only (default: all)",
)
SLICE: Final = Option(
    flag="--slice",
    metavar="N",
    help="for tests/sensitivity: N mutants, other ones each day, so that all have their turn on every topology",
)
PASSES: Final = Option(
    flag="--passes",
    metavar="N",
    default="1",
    help="for tests/sensitivity: how often the claims are run on the mesh without a fault in the end",
)

ATTACHING: Final = (
    KUBECONFIG,
    CLUSTER1_CONTEXT,
    CLUSTER2_CONTEXT,
    CONTEXT,
    ISTIOCTL,
    CLIENT_IMAGE,
    APP_IMAGE,
    IMAGE_PULL_SECRET,
    ISTIO_VALUES,
)
"""Options that mean nothing with the lab."""
CHOOSING: Final = (KUBECONFIG, CLUSTER1_CONTEXT, CLUSTER2_CONTEXT, CONTEXT)
"""Those among them that say which clusters, and so which provider. A variable of the environment never does."""
FOR_GKE: Final = (GKE_PROJECT, GKE_ZONE)

OPTIONS: Final = (
    TOPOLOGY,
    PROVIDER,
    LAB_NAME,
    ISTIO_VERSION,
    UPGRADE_TO,
    *ATTACHING,
    *FOR_GKE,
    PLAN,
    MESH,
    ALLOW_DISRUPTIVE,
    ALLOW_CREDENTIALS,
    KEEP,
    REPORT_DIR,
    OUTAGE,
    MUTANTS,
    SLICE,
    PASSES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options' values, checked. `topologies` is empty if none was chosen.

    `attachment` is there for clusters of a kubeconfig only, `making` for kind and gke only.
    """

    topologies: tuple[Topology, ...]
    provider: str
    lab_name: str
    attachment: Attachment | None
    making: Making | None
    installs: bool
    may_disrupt: bool
    may_make_credentials: bool
    keep: bool
    report_dir: Path
    outage_s: float
    mutants: str = ""
    slice: int = 0
    passes: int = 1
    istio_version: str = ""
    upgrade_to: str = ""

    def topology(self, name: str) -> Topology:
        return next(topology for topology in self.topologies if topology.name == name)

    @property
    def again(self) -> str:
        """What a command needs besides topology and claim to ask the same clusters once more."""
        target = [f"{UPGRADE_TO.flag}={self.upgrade_to}"] if self.upgrade_to else []
        return " ".join([*target, self._where])

    @property
    def _where(self) -> str:
        if self.making is not None:
            return self._again_there(self.making)
        if self.attachment is None:
            return KEEP.flag
        flags = [f"{PROVIDER.flag}={self.provider}"]
        flags += [self.attachment.source] if self.attachment.source.startswith(KUBECONFIG.flag) else []
        flags += [f"{CONTEXT.flag}={name}={context.name}" for name, context in self.attachment.contexts.items()]
        return shlex.join(flags)

    def _again_there(self, making: Making) -> str:
        named = {GKE_PROJECT: making.project, GKE_ZONE: making.zone}
        if self.lab_name != LAB_NAME.default:
            named[LAB_NAME] = self.lab_name
        flags = [f"{option.flag}={value}" for option, value in named.items() if value]
        return shlex.join([f"{PROVIDER.flag}={self.provider}", *flags, KEEP.flag])


def read_settings(
    values: Mapping[str, object], *, root: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> Settings:
    """Check the values (by `Option.dest`). Raises `BadInput` that names the option, the value and the legal ones."""

    def text(option: Option) -> str | None:
        value = values.get(option.dest)
        return option.default if value is None else str(value)

    topologies = _topologies(text(TOPOLOGY))
    provider = _provider(text(PROVIDER), values, topologies)
    ours = provider != ON_KUBECONFIG
    mesh = text(MESH) or (INSTALL if ours else EXISTING)
    if mesh not in MESHES:
        raise BadInput(f"--mesh={mesh}", "there is no such way to get a mesh", f"use one of {', '.join(MESHES)}")
    if _given((ISTIO_VALUES,), values) and (ours or mesh != INSTALL):
        raise BadInput(
            f"{ISTIO_VALUES.flag} with --provider={provider} --mesh={mesh}",
            "nothing is installed with it there",
            f"use --provider={ON_KUBECONFIG} --mesh={INSTALL}, or leave {ISTIO_VALUES.flag} away",
        )
    folder = text(REPORT_DIR)
    return Settings(
        topologies=topologies,
        provider=provider,
        lab_name=text(LAB_NAME) or "",
        attachment=None if ours else _attachment(values, topologies, environment),
        making=_making(provider, values, environment) if provider in MAKERS else None,
        installs=mesh == INSTALL,
        may_disrupt=ours or bool(values.get(ALLOW_DISRUPTIVE.dest)),
        may_make_credentials=ours or bool(values.get(ALLOW_CREDENTIALS.dest)),
        keep=bool(values.get(KEEP.dest)),
        report_dir=writable_folder(f"{REPORT_DIR.flag}={folder}", Path(folder)) if folder else root / "reports",
        outage_s=_outage(text(OUTAGE) or ""),
        mutants=text(MUTANTS) or "",
        slice=_count(SLICE, text(SLICE), "mutants"),
        passes=_count(PASSES, text(PASSES), "passes"),
        istio_version=_istio_version(values, provider),
        upgrade_to=_upgrade_to(text(UPGRADE_TO)),
    )


def _istio_version(values: Mapping[str, object], provider: str) -> str:
    """What the lab is to install, as the number of one of its releases; empty if nothing is flags."""
    given = values.get(ISTIO_VERSION.dest)
    if given is None:
        return ""
    if provider != LAB:
        raise BadInput(
            f"{ISTIO_VERSION.flag} with --provider={provider}",
            "only the lab builds Istio; elsewhere the version is that of the mesh, or of istioctl",
            f"name an istioctl of that version with {ISTIOCTL.flag}, or leave {ISTIO_VERSION.flag} away",
        )
    return release_of(str(given), ISTIO_VERSION.flag).number


def _upgrade_to(given: str | None) -> str:
    return parse_target(given, UPGRADE_TO.flag).text if given else ""


def _provider(named: str | None, values: Mapping[str, object], topologies: tuple[Topology, ...]) -> str:
    """The provider that was named, or the one that other options, or contexts in the topology's file, speak of."""
    if named is not None and named not in PROVIDERS:
        raise BadInput(f"--provider={named}", "there is no such provider", f"use one of {', '.join(PROVIDERS)}")
    with_contexts = any(cluster.context for topology in topologies for cluster in topology.clusters)
    provider = named or (ON_KUBECONFIG if with_contexts or _given(CHOOSING, values) else LAB)
    strange = {LAB: ATTACHING, KIND: CHOOSING, GKE: CHOOSING}.get(provider, ())
    if given := _given(strange, values):
        raise BadInput(
            f"{given[0].flag} with --provider={provider}",
            f"it speaks of clusters that exist, and {provider} makes its own",
            f"use --provider={ON_KUBECONFIG}, or leave {given[0].flag} away",
        )
    if provider != GKE and (given := _given(FOR_GKE, values)):
        raise BadInput(
            f"{given[0].flag} with --provider={provider}",
            f"it means something for {GKE} only",
            f"use --provider={GKE}, or leave {given[0].flag} away",
        )
    return provider


def _given(options: tuple[Option, ...], values: Mapping[str, object]) -> list[Option]:
    return [option for option in options if values.get(option.dest) not in (None, [])]


def _attachment(
    values: Mapping[str, object], topologies: tuple[Topology, ...], environment: Mapping[str, str]
) -> Attachment:
    def text(option: Option) -> str | None:
        value = values.get(option.dest)
        return None if value is None else str(value)

    files, source = kubeconfig_files(text(KUBECONFIG), environment)
    named = values.get(CONTEXT.dest) or []
    assert isinstance(named, list)
    by_place = {place: (option.flag, text(option)) for place, option in enumerate(_BY_PLACE, start=1)}
    return Attachment(
        files=files,
        source=source,
        contexts=named_contexts(topologies, named, by_place, environment),
        istioctl=_istioctl(values),
        images=_images(values),
        istio_values=_istio_values(values),
        pull_secret=_pull_secret(values),
    )


def _pull_secret(values: Mapping[str, object]) -> PullSecret | None:
    given = values.get(IMAGE_PULL_SECRET.dest)
    if given is None:
        return None
    namespace, _, name = str(given).partition("/")
    if not namespace or not name or "/" in name:
        raise BadInput(f"{IMAGE_PULL_SECRET.flag}={given}", "it names no secret", "write it as NAMESPACE/NAME")
    return PullSecret(namespace=namespace, name=name)


def _istio_values(values: Mapping[str, object]) -> Mapping[str, object]:
    given = values.get(ISTIO_VALUES.dest)
    if given is None:
        return {}
    text = read_text(f"{ISTIO_VALUES.flag}={given}", Path(str(given)), "name a readable YAML file")
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        reason = str(problem).splitlines()[0]
        raise BadInput(f"{ISTIO_VALUES.flag}={given}", reason, "name a readable YAML file") from None
    if not isinstance(found, dict):
        raise BadInput(f"{ISTIO_VALUES.flag}={given}", "it is no mapping", "write it as the spec of an IstioOperator")
    return found


def _making(provider: str, values: Mapping[str, object], environment: Mapping[str, str]) -> Making:
    return Making(
        istioctl=_istioctl(values),
        images=_images(values),
        runtime=container_runtime(environment) if provider == KIND else "",
        project=str(values.get(GKE_PROJECT.dest) or ""),
        zone=str(values.get(GKE_ZONE.dest) or ""),
    )


def _istioctl(values: Mapping[str, object]) -> Path | None:
    given = values.get(ISTIOCTL.dest)
    return None if given is None else istioctl_file(Path(str(given)))


def istioctl_file(given: Path) -> Path:
    """The program that was named. Raises `BadInput` if it is none."""
    return program_file(f"{ISTIOCTL.flag}={given}", given, f"name the program istioctl, or omit {ISTIOCTL.flag}")


def _images(values: Mapping[str, object]) -> dict[str, str]:
    given = {"client": values.get(CLIENT_IMAGE.dest), "app": values.get(APP_IMAGE.dest)}
    return {purpose: str(image) for purpose, image in given.items() if image}


_BY_PLACE: Final = (CLUSTER1_CONTEXT, CLUSTER2_CONTEXT)


def choose_topology() -> BadInput:
    """The error for a run that needs a mesh and was not told which."""
    return BadInput(
        "--topology is missing", "there is no default mesh", f"use --topology={' | '.join((*available(), ALL))}"
    )


def _topologies(value: str | None) -> tuple[Topology, ...]:
    if value is None:
        return ()
    if value != ALL:
        return (load_topology(value),)
    loaded = tuple(load_topology(name) for name in available())
    if not loaded:
        raise BadInput(f"--topology={ALL}", "there is no topology", "put one into topologies/")
    return loaded


def _outage(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 5 <= seconds <= 3600:
        raise BadInput(f"--outage={value}", "not a number of seconds that makes sense here", "use 5 to 3600")
    return seconds


def _count(option: Option, value: str | None, things: str) -> int:
    if value is None:
        return 0
    if not value.isdecimal() or int(value) == 0:
        raise BadInput(f"{option.flag}={value}", f"not a number of {things}", "use 1 or more")
    return int(value)
