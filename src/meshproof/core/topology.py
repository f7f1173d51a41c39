"""Topology files: a strict loader whose errors name file, line, reason and repair."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, NoReturn, TypedDict

import yaml

from meshproof.core import names
from meshproof.core.errors import BadInput
from meshproof.core.model import EAST_WEST, INGRESS, ClusterName, ClusterSpec, GatewayRef, NetworkName, Role, Topology
from meshproof.core.path_options import read_text

TOPOLOGIES: Final = Path(__file__).resolve().parents[1] / "topologies"
"""The topologies that come with meshproof, one YAML file each. In a checkout the top-level folder links here."""

_TOP_KEYS: Final = ("title", "mesh_id", "trust_domain", "clusters")
_CLUSTER_KEYS: Final = ("name", "role", "network", "app_version")
_CLUSTER_EXTRAS: Final = ("control_plane", "pods", "revision", "context", "ingress", "east_west")

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123 label as Kubernetes takes it: these names become parts of object names and label values."""
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
"""SPIFFE ID, section 2.1: lower-case letters, digits, dots, dashes and underscores, at most 255 bytes."""

NONE: Final = "none"
"""Value of a gateway's key in a topology if the cluster has no such gateway."""

_NO_GATEWAYS: Final = (names.APP_NAMESPACE, names.CLIENT_NAMESPACE)

_NAME_RULE: Final = "use lower-case letters, digits and dashes, at most 63 characters, a letter or digit at both ends"


def available(folder: Path = TOPOLOGIES) -> tuple[str, ...]:
    """Names of the topologies in `folder`, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def called(topology: Topology) -> str:
    """Its value for `--topology`: a built-in one's name, or the path of another's file."""
    return topology.name if topology.name in available() else str(topology.source.absolute())


def load_topology(name_or_path: str, *, folder: Path = TOPOLOGIES) -> Topology:
    """Load and check a topology by its name in `folder`, or by the path of a YAML file.

    Raises `BadInput` with file and line, what is wrong there, and how to repair it.
    """
    path = _find(name_or_path, folder)
    return _Loader(path).load(read_text(f"--topology={name_or_path}", path, "name a readable YAML file"))


def parse_topology(text: str, path: Path) -> Topology:
    """The same from the text of a file that need not exist; errors name `path`."""
    return _Loader(path).load(text)


def as_yaml(topology: Topology) -> str:
    """Its YAML text as docs/writing-a-topology.md has it, without default values."""
    head = {"title": topology.title, "mesh_id": topology.mesh_id, "trust_domain": topology.trust_domain}
    clusters = [_cluster_as_yaml(cluster) for cluster in topology.clusters]
    return yaml.safe_dump({**head, "clusters": clusters}, sort_keys=False, allow_unicode=True)


def _cluster_as_yaml(cluster: ClusterSpec) -> dict[str, str]:
    primary = cluster.role is Role.PRIMARY
    keys = {
        "name": cluster.name,
        "role": str(cluster.role),
        "control_plane": "" if primary else cluster.control_plane,
        "network": cluster.network,
        "app_version": cluster.app_version,
        "pods": cluster.pods,
        "revision": cluster.revision if primary and cluster.revision != names.DEFAULT_REVISION else "",
        "ingress": str(cluster.ingress or NONE) if cluster.ingress != INGRESS else "",
        "east_west": str(cluster.east_west) if cluster.east_west != EAST_WEST else "",
        "context": cluster.context,
    }
    return {key: value for key, value in keys.items() if value}


def _find(name_or_path: str, folder: Path) -> Path:
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    there = available(folder)
    if name_or_path in there:
        return folder / f"{name_or_path}.yaml"
    legal = f"use one of {', '.join(there)}" if there else f"put one into {folder}"
    raise BadInput(
        f"--topology={name_or_path}",
        "no such topology",
        f"{_suggestion(name_or_path, there)}{legal}, or the path of a YAML file (./my-mesh.yaml)",
    )


def _suggestion(word: str, legal: Sequence[str]) -> str:
    close = get_close_matches(word, legal, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _shown(path: Path) -> str:
    """The path relative to the working directory, if below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """The values of one YAML mapping by key, with the mapping node for its line. `owner` names it in errors."""

    owner: str
    node: yaml.Node
    values: Mapping[str, yaml.Node]


class _Gateways(TypedDict):
    ingress: GatewayRef | None
    east_west: GatewayRef


class _Loader:
    """Checks one file from top to bottom and stops at the first error."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, text: str) -> Topology:
        top = self._fields(self._compose(text), "the topology", _TOP_KEYS, ())
        entries = top.values["clusters"]
        if not isinstance(entries, yaml.SequenceNode):
            self._wrong(
                entries, f"'clusters' must be a list, not {_kind(entries)}", "begin each cluster with '- name: …'"
            )
        if not entries.value:
            self._wrong(entries, "'clusters' is empty", "list at least one primary cluster")
        fields = [self._cluster_fields(entry, number) for number, entry in enumerate(entries.value, start=1)]
        self._unique(fields, "name")
        self._unique(fields, "app_version")
        clusters = tuple(self._cluster(f) for f in fields)
        self._check_control_planes(clusters, fields, entries)
        self._check_pod_ranges(clusters, fields)
        clusters = self._with_revisions(clusters, fields)
        return Topology(
            name=self._path.stem,
            title=self._text(top, "title"),
            mesh_id=self._named(top, "mesh_id"),
            trust_domain=self._named(
                top, "trust_domain", _TRUST_DOMAIN, "use a DNS name in lower case (cluster.local)"
            ),
            clusters=clusters,
            source=self._path,
        )

    # -- from text to fields --------------------------------------------------------------------------------------

    def _wrong(self, node: yaml.Node, reason: str, repair: str) -> NoReturn:
        raise BadInput(f"{_shown(self._path)}:{node.start_mark.line + 1}", reason, repair)

    def _compose(self, text: str) -> yaml.Node:
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as problem:
            mark = getattr(problem, "problem_mark", None)
            place = f"{_shown(self._path)}:{mark.line + 1}" if mark else _shown(self._path)
            reason = getattr(problem, "problem", None) or str(problem).splitlines()[0]
            raise BadInput(place, f"not valid YAML: {reason}", "check indentation, colons and quotes") from None
        if node is None:
            raise BadInput(_shown(self._path), "the file is empty", f"give it {', '.join(_TOP_KEYS)}")
        return node

    def _fields(self, node: yaml.Node, owner: str, required: tuple[str, ...], extras: tuple[str, ...]) -> _Fields:
        legal = required + extras
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, f"{owner} must be a mapping, not {_kind(node)}", f"give it {', '.join(legal)}")
        values: dict[str, yaml.Node] = {}
        for key, value in node.value:
            word = key.value if isinstance(key, yaml.ScalarNode) else _kind(key)
            if word not in legal:
                repair = f"{_suggestion(word, legal)}valid keys are {', '.join(legal)}"
                self._wrong(key, f"unknown key '{word}' in {owner}", repair)
            if word in values:
                first = values[word].start_mark.line + 1
                self._wrong(
                    key, f"key '{word}' of {owner} is duplicated (first in line {first})", "remove one of the two"
                )
            values[word] = value
        for word in required:
            if word not in values:
                self._wrong(node, f"{owner} has no '{word}'", f"add '{word}: …'")
        return _Fields(owner=owner, node=node, values=values)

    def _cluster_fields(self, entry: yaml.Node, number: int) -> _Fields:
        owner = f"cluster {number}"
        if isinstance(entry, yaml.MappingNode):
            called = [v.value for k, v in entry.value if k.value == "name" and isinstance(v, yaml.ScalarNode)]
            owner = f"cluster '{called[0]}'" if called else owner
        return self._fields(entry, owner, _CLUSTER_KEYS, _CLUSTER_EXTRAS)

    def _text(self, fields: _Fields, key: str) -> str:
        node = fields.values[key]
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            word = f" ({node.value})" if isinstance(node, yaml.ScalarNode) and node.value else ""
            self._wrong(node, f"'{key}' of {fields.owner} must be text, not {_kind(node)}{word}", "put it in quotes")
        text: str = node.value.strip()
        if not text:
            self._wrong(node, f"'{key}' of {fields.owner} is empty", "give it a value")
        return text

    def _named(self, fields: _Fields, key: str, pattern: re.Pattern[str] = _DNS_LABEL, repair: str = _NAME_RULE) -> str:
        text = self._text(fields, key)
        if not pattern.fullmatch(text):
            self._wrong(fields.values[key], f"'{key}' of {fields.owner} is not a valid name: '{text}'", repair)
        return text

    # -- from fields to clusters ----------------------------------------------------------------------------------

    def _unique(self, clusters: Sequence[_Fields], key: str) -> None:
        seen: dict[str, _Fields] = {}
        for fields in clusters:
            text = self._named(fields, key)
            if text in seen:
                first = seen[text].values[key].start_mark.line + 1
                reason = f"two clusters have the {key} '{text}' (first in line {first})"
                self._wrong(fields.values[key], reason, f"give each cluster its own {key}")
            seen[text] = fields

    def _cluster(self, fields: _Fields) -> ClusterSpec:
        name = self._named(fields, "name")
        role_text = self._text(fields, "role")
        try:
            role = Role(role_text)
        except ValueError:
            legal = [str(r) for r in Role]
            repair = f"{_suggestion(role_text, legal)}use one of {', '.join(legal)}"
            self._wrong(fields.values["role"], f"'role' of {fields.owner} is not a role: '{role_text}'", repair)
        return ClusterSpec(
            name=ClusterName(name),
            role=role,
            network=NetworkName(self._named(fields, "network")),
            control_plane=ClusterName(self._control_plane(fields, name, role)),
            app_version=self._named(fields, "app_version"),
            pods=str(self._range(fields)) if "pods" in fields.values else None,
            revision=self._named(fields, "revision") if "revision" in fields.values else names.DEFAULT_REVISION,
            context=self._text(fields, "context") if "context" in fields.values else None,
            **self._gateways(fields),
        )

    def _gateways(self, fields: _Fields) -> _Gateways:
        found: _Gateways = {
            "ingress": None if self._has_no(fields, "ingress") else self._gateway(fields, "ingress", INGRESS),
            "east_west": self._gateway(fields, "east_west", EAST_WEST),
        }
        if found["ingress"] == found["east_west"]:
            key = "east_west" if "east_west" in fields.values else "ingress"
            reason = f"both gateways of {fields.owner} are {found['ingress']}"
            self._wrong(
                fields.values[key],
                reason,
                "name two gateways: clients must not reach the ports meant for other clusters",
            )
        return found

    def _has_no(self, fields: _Fields, key: str) -> bool:
        return key in fields.values and self._text(fields, key) == NONE

    def _gateway(self, fields: _Fields, key: str, default: GatewayRef) -> GatewayRef:
        if key not in fields.values:
            return default
        text = self._text(fields, key)
        namespace, slash, name = text.partition("/")
        if not (slash and _DNS_LABEL.fullmatch(namespace) and _DNS_LABEL.fullmatch(name)):
            reason = f"'{key}' of {fields.owner} is not the name of a gateway: '{text}'"
            other = f", or {NONE}" if key == "ingress" else ""
            repair = f"write NAMESPACE/NAME of its Service: istio-ingress/istio-ingress{other}"
            self._wrong(fields.values[key], reason, repair)
        if namespace in _NO_GATEWAYS or namespace.startswith(names.NAMESPACE_PREFIX):
            reason = f"'{key}' of {fields.owner} is in namespace {namespace}, which is reserved for probes"
            self._wrong(fields.values[key], reason, "name a gateway in another namespace, such as istio-system")
        return GatewayRef(namespace, name)

    def _control_plane(self, fields: _Fields, name: str, role: Role) -> str:
        if role is Role.PRIMARY:
            given = self._text(fields, "control_plane") if "control_plane" in fields.values else name
            if given != name:
                reason = f"{fields.owner} is a primary, so it is its own control plane, not '{given}'"
                self._wrong(fields.values["control_plane"], reason, "remove the key, or make the role 'remote'")
            return name
        if "control_plane" not in fields.values:
            reason = f"{fields.owner} is a remote but has no 'control_plane'"
            self._wrong(fields.node, reason, "add 'control_plane: …' with the name of a primary")
        return self._text(fields, "control_plane")

    def _range(self, fields: _Fields) -> IPv4Network | IPv6Network:
        text = self._text(fields, "pods")
        try:
            return ip_network(text)
        except ValueError as problem:
            self._wrong(
                fields.values["pods"],
                f"'pods' of {fields.owner} is not an address range: {problem}",
                "write it in CIDR notation, for example 10.10.0.0/16",
            )

    # -- rules between clusters -----------------------------------------------------------------------------------

    def _check_control_planes(
        self, clusters: Sequence[ClusterSpec], fields: Sequence[_Fields], entries: yaml.Node
    ) -> None:
        roles = {c.name: c.role for c in clusters}
        primaries = [c.name for c in clusters if c.role is Role.PRIMARY]
        if not primaries:
            self._wrong(
                entries, "no cluster is a primary, so the mesh has no control plane", "make one 'role: primary'"
            )
        for cluster, own in zip(clusters, fields, strict=True):
            wanted = cluster.control_plane
            if roles.get(wanted) is Role.PRIMARY:
                continue
            why = "which is itself a remote" if wanted in roles else "which is not in this file"
            reason = f"the control plane of {own.owner} is '{wanted}', {why}"
            guess = "" if wanted in roles else _suggestion(wanted, primaries)
            repair = f"{guess}name a primary: {', '.join(primaries)}"
            self._wrong(own.values["control_plane"], reason, repair)

    def _check_pod_ranges(self, clusters: Sequence[ClusterSpec], fields: Sequence[_Fields]) -> None:
        """Pods on one network connect by address, so ranges must not overlap (istio.io, deployment models)."""
        seen: list[tuple[ClusterSpec, IPv4Network | IPv6Network]] = []
        for cluster, own in zip(clusters, fields, strict=True):
            if "pods" not in own.values:
                continue
            mine = self._range(own)
            for other, theirs in seen:
                if other.network == cluster.network and _overlap(mine, theirs):
                    self._wrong(
                        own.values["pods"],
                        f"'pods' of {own.owner} ({mine}) overlaps that of cluster '{other.name}' ({theirs}), "
                        f"and both clusters are on {cluster.network}",
                        "use disjoint ranges, or different networks",
                    )
            seen.append((cluster, mine))

    def _with_revisions(self, clusters: Sequence[ClusterSpec], fields: Sequence[_Fields]) -> tuple[ClusterSpec, ...]:
        """A remote's revision is that of the istiod that controls it."""
        revisions = {cluster.name: cluster.revision for cluster in clusters}
        for cluster, own in zip(clusters, fields, strict=True):
            wanted = revisions[cluster.control_plane]
            if "revision" in own.values and cluster.revision != wanted:
                reason = (
                    f"{own.owner} has the revision '{cluster.revision}', its control plane '{cluster.control_plane}' "
                    f"has '{wanted}'"
                )
                self._wrong(own.values["revision"], reason, "remove the key: a remote uses its primary's revision")
        return tuple(replace(cluster, revision=revisions[cluster.control_plane]) for cluster in clusters)


def _overlap(a: IPv4Network | IPv6Network, b: IPv4Network | IPv6Network) -> bool:
    if isinstance(a, IPv4Network):
        return isinstance(b, IPv4Network) and a.overlaps(b)
    return isinstance(b, IPv6Network) and a.overlaps(b)


_TAGS: Final[Mapping[str, str]] = {
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "null": "empty",
    "timestamp": "a date",
    "str": "text",
}


def _kind(node: yaml.Node) -> str:
    """The type of a YAML node, in words."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _TAGS.get(node.tag.rpartition(":")[2], f"of type {node.tag}")
