"""All options as records, from which help, checks and errors derive."""

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
"""Providers that create clusters with other command-line tools."""
INSTALL: Final = "install"
EXISTING: Final = "existing"
MESHES: Final = (INSTALL, EXISTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. An empty `metavar` means a switch; `default` None that it is required or derived.

    A `repeated` option may be given several times; its value is a list.
    """

    flag: str
    help: str
    metavar: str = ""
    default: str | None = None
    repeated: bool = False

    @property
    def dest(self) -> str:
        """The name under which pytest stores its value; prefixed, since other plugins have options too."""
        return "meshproof_" + self.flag.lstrip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        return not self.metavar


TOPOLOGY: Final = Option(
    flag="--topology",
    metavar="NAME|FILE|all",
    help=f"which mesh to build and verify: {', '.join(available())}, a YAML file of your own, or all of these "
    "one after the other on the same clusters",
)
PROVIDER: Final = Option(
    flag="--provider",
    metavar="NAME",
    help=f"where clusters come from: {LAB} starts them on this machine, {ON_KUBECONFIG} uses existing ones, {KIND} "
    f"and {GKE} create them with kind and gcloud (default: {LAB}, or {ON_KUBECONFIG} with one of its options, or with "
    "contexts in the topology file)",
)
LAB_NAME: Final = Option(
    flag="--lab-name",
    metavar="NAME",
    default="default",
    help=f"which lab to use; a running lab is used unchanged. With {KIND} and {GKE}: part of the clusters' names",
)
ISTIO_VERSION: Final = Option(
    flag=ISTIO_VERSION_FLAG,
    metavar="VERSION",
    help="which release of Istio the lab builds and installs, for example 1.30 or 1.30.4 (default: "
    "that of a running lab, the newest, or the one before the version of --upgrade-to)",
)
UPGRADE_TO: Final = Option(
    flag=UPGRADE_TO_FLAG,
    metavar="VERSION",
    help="the target version of UPGRADE claims: the check before an upgrade, and on the lab the upgrade itself, "
    "in place and by revision, under load",
)
KEEP: Final = Option(flag=KEEP_FLAG, help="keep clusters and mesh for the next run")
PLAN: Final = Option(
    flag="--plan", help="print all commands that would create the clusters, with their purpose, and start nothing"
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
    help="install: install or complete the mesh, and remove it at the end; existing: verify the mesh as it is, and "
    "change nothing except probe namespaces, which are removed afterwards "
    f"(default: {EXISTING} on a kubeconfig, {INSTALL} on all others)",
)
KUBECONFIG: Final = Option(
    flag="--kubeconfig",
    metavar="FILE",
    help="file with the contexts; several files joined as in the variable KUBECONFIG (default: KUBECONFIG, or "
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
    metavar="[CLUSTER=]CONTEXT",
    repeated=True,
    help="the context of a cluster by its name in the topology, else of the topology's next cluster; once for each "
    "cluster",
)
ISTIOCTL: Final = Option(
    flag="--istioctl",
    metavar="FILE",
    help="the istioctl that CONTROL-06 checks on a kubeconfig (default: the one in PATH, or the lab's), and that "
    f"installs on {KIND}, {GKE}, and with --mesh={INSTALL} on a kubeconfig, in its own version (default: the one in "
    "PATH)",
)
CLIENT_IMAGE: Final = Option(
    flag="--client-image",
    metavar="IMAGE",
    help="image of probe clients on a kubeconfig, with sh, curl 7.84, openssl, seq and sleep (default: that of the "
    "existing client pods, else the mesh's own proxy image if it has them; when a mesh is installed Istio's proxyv2)",
)
APP_IMAGE: Final = Option(
    flag="--app-image",
    metavar="IMAGE",
    help="image of probe servers on a kubeconfig, with envoy (default: that of the demonstration service's pods that "
    "exist, else the mesh's own proxy image; when a mesh is installed Istio's proxyv2)",
)
ISTIO_VALUES: Final = Option(
    flag="--istio-values",
    metavar="FILE",
    help=f"for --mesh={INSTALL} on a kubeconfig: YAML that is merged into the spec of each cluster's IstioOperator, "
    "for example hub and tag of your own registry, or values.global.imagePullSecrets",
)
IMAGE_PULL_SECRET: Final = Option(
    flag="--image-pull-secret",
    metavar="NAMESPACE/NAME",
    help="the secret with which probe pods on a kubeconfig pull their images; it must be in every cluster, and is "
    "copied into the namespaces that meshproof creates",
)
ALLOW_DISRUPTIVE: Final = Option(
    flag="--allow-disruptive",
    help="let FAILOVER claims stop control planes of clusters that meshproof did not create",
)
ALLOW_CREDENTIALS: Final = Option(
    flag="--allow-credentials",
    help="on clusters that meshproof did not create: let claims create mesh credentials for themselves, namely "
    "certificates signed with the key in secret cacerts, and tokens of service accounts",
)
MUTANTS: Final = Option(
    flag="--mutants",
    metavar="ID,ID",
    help="for tests/sensitivity: these faults of `meshproof fault list` only (default: all); for tests/specificity: "
    "these on top of each variant, or `none` (default: those that its record names)",
)
VARIANTS: Final = Option(
    flag="--variants",
    metavar="ID,ID",
    help="for tests/specificity: these variants of `meshproof variant list` only (default: all)",
)
SLICE: Final = Option(
    flag="--slice",
    metavar="N",
    help="for tests/sensitivity and tests/specificity: N mutants or variants, different ones each day, so that all are "
    "run on every topology over time",
)
PASSES: Final = Option(
    flag="--passes",
    metavar="N",
    default="1",
    help="for tests/sensitivity: how often the claims are run on the mesh without a fault at the end",
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
"""Options that do not apply to the lab."""
CHOOSING: Final = (KUBECONFIG, CLUSTER1_CONTEXT, CLUSTER2_CONTEXT, CONTEXT)
"""Those that select clusters, and so the provider. Environment variables never do."""
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
    VARIANTS,
    SLICE,
    PASSES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated values of the options. `topologies` is empty if none was chosen.

    `attachment` is set for clusters of a kubeconfig only, `making` for kind and gke only.
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
    variants: str = ""
    slice: int = 0
    passes: int = 1
    istio_version: str = ""
    upgrade_to: str = ""

    def topology(self, name: str) -> Topology:
        return next(topology for topology in self.topologies if topology.name == name)

    @property
    def again(self) -> str:
        """The options for a further command on the same clusters, without topology and claim."""
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
    """Validate the values (by `Option.dest`). Raises `BadInput` with the option, the value and the valid ones."""

    def text(option: Option) -> str | None:
        value = values.get(option.dest)
        return option.default if value is None else str(value)

    topologies = _topologies(text(TOPOLOGY))
    provider = _provider(text(PROVIDER), values, topologies)
    ours = provider != ON_KUBECONFIG
    mesh = text(MESH) or (INSTALL if ours else EXISTING)
    if mesh not in MESHES:
        raise BadInput(f"--mesh={mesh}", "not a valid value", f"use one of {', '.join(MESHES)}")
    if _given((ISTIO_VALUES,), values) and (ours or mesh != INSTALL):
        raise BadInput(
            f"{ISTIO_VALUES.flag} with --provider={provider} --mesh={mesh}",
            "it has no effect there",
            f"use --provider={ON_KUBECONFIG} --mesh={INSTALL}, or omit {ISTIO_VALUES.flag}",
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
        variants=text(VARIANTS) or "",
        slice=_count(SLICE, text(SLICE), "mutants"),
        passes=_count(PASSES, text(PASSES), "passes"),
        istio_version=_istio_version(values, provider),
        upgrade_to=_upgrade_to(text(UPGRADE_TO)),
    )


def _istio_version(values: Mapping[str, object], provider: str) -> str:
    """The release for the lab to install, by its number; empty if not given."""
    given = values.get(ISTIO_VERSION.dest)
    if given is None:
        return ""
    if provider != LAB:
        raise BadInput(
            f"{ISTIO_VERSION.flag} with --provider={provider}",
            "only the lab builds Istio; with other providers the version is that of the mesh, or of istioctl",
            f"name an istioctl of that version with {ISTIOCTL.flag}, or omit {ISTIO_VERSION.flag}",
        )
    return release_of(str(given), ISTIO_VERSION.flag).number


def _upgrade_to(given: str | None) -> str:
    return parse_target(given, UPGRADE_TO.flag).text if given else ""


def _provider(named: str | None, values: Mapping[str, object], topologies: tuple[Topology, ...]) -> str:
    """The given provider, or the one implied by other options or by contexts in the topology file."""
    if named is not None and named not in PROVIDERS:
        raise BadInput(f"--provider={named}", "there is no such provider", f"use one of {', '.join(PROVIDERS)}")
    with_contexts = any(cluster.context for topology in topologies for cluster in topology.clusters)
    provider = named or (ON_KUBECONFIG if with_contexts or _given(CHOOSING, values) else LAB)
    strange = {LAB: ATTACHING, KIND: CHOOSING, GKE: CHOOSING}.get(provider, ())
    if given := _given(strange, values):
        raise BadInput(
            f"{given[0].flag} with --provider={provider}",
            f"it applies to existing clusters only, and {provider} creates its own",
            f"use --provider={ON_KUBECONFIG}, or omit {given[0].flag}",
        )
    if provider != GKE and (given := _given(FOR_GKE, values)):
        raise BadInput(
            f"{given[0].flag} with --provider={provider}",
            f"it applies to {GKE} only",
            f"use --provider={GKE}, or omit {given[0].flag}",
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
        raise BadInput(f"{IMAGE_PULL_SECRET.flag}={given}", "not the name of a secret", "write it as NAMESPACE/NAME")
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
        raise BadInput(f"{ISTIO_VALUES.flag}={given}", "not a YAML mapping", "write it as the spec of an IstioOperator")
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
    """The given program. Raises `BadInput` if it is not executable."""
    return program_file(f"{ISTIOCTL.flag}={given}", given, f"name the program istioctl, or omit {ISTIOCTL.flag}")


def _images(values: Mapping[str, object]) -> dict[str, str]:
    given = {"client": values.get(CLIENT_IMAGE.dest), "app": values.get(APP_IMAGE.dest)}
    return {purpose: str(image) for purpose, image in given.items() if image}


_BY_PLACE: Final = (CLUSTER1_CONTEXT, CLUSTER2_CONTEXT)


def choose_topology() -> BadInput:
    """The error for a run that needs a mesh but has no --topology."""
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
        raise BadInput(f"--topology={ALL}", "there is no topology", "put a file into topologies/")
    return loaded


def _outage(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 5 <= seconds <= 3600:
        raise BadInput(f"--outage={value}", "not a valid number of seconds", "use 5 to 3600")
    return seconds


def _count(option: Option, value: str | None, things: str) -> int:
    if value is None:
        return 0
    if not value.isdecimal() or int(value) == 0:
        raise BadInput(f"{option.flag}={value}", f"not a number of {things}", "use 1 or more")
    return int(value)
