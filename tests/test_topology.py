"""The topologies that come with meshproof, and what the loader says about a file that is wrong."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from meshproof.core.errors import BadInput
from meshproof.core.model import Role
from meshproof.core.topology import available, load_topology

NAMES = ("multi-primary-multinet", "multi-primary-samenet", "primary-remote-multinet", "primary-remote-samenet")

GOOD = """\
title: Three clusters
mesh_id: mesh1
trust_domain: cluster.local
clusters:
  - name: east
    role: primary
    network: n1
    app_version: v1
    pods: 10.1.0.0/16
  - name: west
    role: remote
    control_plane: east
    network: n2
    app_version: v2
    pods: 10.2.0.0/16
  - name: north
    role: primary
    network: n1
    app_version: v3
    pods: 10.3.0.0/16
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors show paths relative to the working folder, so the golden texts need no temporary names."""
    monkeypatch.chdir(tmp_path)


def refusal(text: str | bytes) -> str:
    path = Path("mesh.yaml")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(BadInput) as caught:
        load_topology("mesh.yaml")
    return str(caught.value)


def test_the_four_topologies_of_the_book_are_there() -> None:
    assert available() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_topology_is_what_its_name_says(name: str) -> None:
    topology = load_topology(name)
    assert topology.name == name
    assert [c.name for c in topology.clusters] == ["cluster1", "cluster2"]
    assert [c.app_version for c in topology.clusters] == ["v1", "v2"]
    assert (topology.mesh_id, topology.trust_domain) == ("mesh1", "cluster.local")
    assert len(topology.networks) == (2 if name.endswith("multinet") else 1)
    assert len(topology.primaries) == (2 if name.startswith("multi-primary") else 1)


def test_a_third_cluster_is_a_few_more_lines() -> None:
    Path("mesh.yaml").write_text(GOOD)
    topology = load_topology("mesh.yaml")
    east, west, north = topology.clusters
    assert (west.role, west.control_plane, west.pods) == (Role.REMOTE, "east", "10.2.0.0/16")
    assert (east.control_plane, north.control_plane) == ("east", "north")
    assert len(list(topology.pairs)) == 6
    assert list(topology.pairs_on_one_network) == [(east, north), (north, east)]
    assert topology.name == "mesh"


def test_a_primary_may_name_itself_as_its_control_plane() -> None:
    Path("mesh.yaml").write_text(GOOD.replace("role: primary\n", "role: primary\n    control_plane: east\n", 1))
    assert load_topology("./mesh.yaml").clusters[0].control_plane == "east"


def test_ranges_may_overlap_on_different_networks_and_between_ip_versions() -> None:
    Path("mesh.yaml").write_text(GOOD.replace("10.2.0.0/16", "10.1.0.0/16").replace("10.3.0.0/16", "fd00::/48"))
    assert load_topology("mesh.yaml").clusters[2].pods == "fd00::/48"


def test_an_unknown_name_gets_the_legal_ones_and_a_guess() -> None:
    with pytest.raises(BadInput) as caught:
        load_topology("primary-remote-multnet")
    assert str(caught.value) == (
        "--topology=primary-remote-multnet: no such topology\n"
        "  repair: did you mean primary-remote-multinet? use one of multi-primary-multinet, multi-primary-samenet, "
        "primary-remote-multinet, primary-remote-samenet, or the path of a YAML file (./my-mesh.yaml)"
    )


def test_a_path_that_is_not_there_is_said_so() -> None:
    with pytest.raises(BadInput) as caught:
        load_topology("./nowhere.yaml")
    assert str(caught.value) == "--topology=./nowhere.yaml: no such file\n  repair: name a readable YAML file"


# What is replaced in GOOD, by what, and what the loader says then.
GOLDEN = {
    "unknown key": (
        "    network: n2",
        "    netwrok: n2",
        "mesh.yaml:13: unknown key 'netwrok' in cluster 'west'\n"
        "  repair: did you mean network? valid keys are name, role, network, app_version, control_plane, pods, "
        "revision, context, ingress, east_west",
    ),
    "unknown key at the top": (
        "title: Three clusters",
        "titel: Three clusters",
        "mesh.yaml:1: unknown key 'titel' in the topology\n"
        "  repair: did you mean title? valid keys are title, mesh_id, trust_domain, clusters",
    ),
    "merge key": (
        "    network: n2",
        "    <<: {network: n2}",
        "mesh.yaml:13: unknown key '<<' in cluster 'west'\n"
        "  repair: valid keys are name, role, network, app_version, control_plane, pods, revision, context, ingress, "
        "east_west",
    ),
    "missing key": (
        "    network: n2\n",
        "",
        "mesh.yaml:10: cluster 'west' has no 'network'\n  repair: add 'network: …'",
    ),
    "missing name": (
        "  - name: west\n    role: remote",
        "  - role: remote",
        "mesh.yaml:10: cluster 2 has no 'name'\n  repair: add 'name: …'",
    ),
    "missing version": (
        "    app_version: v3\n",
        "",
        "mesh.yaml:16: cluster 'north' has no 'app_version'\n  repair: add 'app_version: …'",
    ),
    "key twice": (
        "    network: n2",
        "    network: n2\n    network: n3",
        "mesh.yaml:14: key 'network' of cluster 'west' is duplicated (first in line 13)\n"
        "  repair: remove one of the two",
    ),
    "number": (
        "app_version: v2",
        "app_version: 2",
        "mesh.yaml:14: 'app_version' of cluster 'west' must be text, not a number (2)\n  repair: put it in quotes",
    ),
    "truth value": (
        "network: n2",
        "network: on",
        "mesh.yaml:13: 'network' of cluster 'west' must be text, not a boolean (on)\n  repair: put it in quotes",
    ),
    "list for text": (
        "network: n2",
        "network: [n2]",
        "mesh.yaml:13: 'network' of cluster 'west' must be text, not a list\n  repair: put it in quotes",
    ),
    "no value": (
        "mesh_id: mesh1",
        "mesh_id:",
        "mesh.yaml:2: 'mesh_id' of the topology must be text, not empty\n  repair: put it in quotes",
    ),
    "bad name": (
        "name: west",
        "name: West_1",
        "mesh.yaml:10: 'name' of cluster 'West_1' is not a valid name: 'West_1'\n"
        "  repair: use lower-case letters, digits and dashes, at most 63 characters, a letter or digit at both ends",
    ),
    "long name": (
        "name: west",
        f"name: {'w' * 64}",
        f"mesh.yaml:10: 'name' of cluster '{'w' * 64}' is not a valid name: '{'w' * 64}'\n"
        "  repair: use lower-case letters, digits and dashes, at most 63 characters, a letter or digit at both ends",
    ),
    "bad trust domain": (
        "trust_domain: cluster.local",
        "trust_domain: Cluster.local",
        "mesh.yaml:3: 'trust_domain' of the topology is not a valid name: 'Cluster.local'\n"
        "  repair: use a DNS name in lower case (cluster.local)",
    ),
    "two clusters of one name": (
        "name: north",
        "name: east",
        "mesh.yaml:16: two clusters have the name 'east' (first in line 5)\n  repair: give each cluster its own name",
    ),
    "two clusters of one version": (
        "app_version: v3",
        "app_version: v1",
        "mesh.yaml:19: two clusters have the app_version 'v1' (first in line 8)\n"
        "  repair: give each cluster its own app_version",
    ),
    "unknown role": (
        "role: remote",
        "role: remoet",
        "mesh.yaml:11: 'role' of cluster 'west' is not a role: 'remoet'\n"
        "  repair: did you mean remote? use one of primary, remote",
    ),
    "remote without control plane": (
        "    control_plane: east\n",
        "",
        "mesh.yaml:10: cluster 'west' is a remote but has no 'control_plane'\n"
        "  repair: add 'control_plane: …' with the name of a primary",
    ),
    "dangling control plane": (
        "control_plane: east",
        "control_plane: eest",
        "mesh.yaml:12: the control plane of cluster 'west' is 'eest', which is not in this file\n"
        "  repair: did you mean east? name a primary: east, north",
    ),
    "control plane is a remote": (
        "control_plane: east",
        "control_plane: west",
        "mesh.yaml:12: the control plane of cluster 'west' is 'west', which is itself a remote\n"
        "  repair: name a primary: east, north",
    ),
    "primary with another control plane": (
        "  - name: north\n",
        "  - name: north\n    control_plane: east\n",
        "mesh.yaml:17: cluster 'north' is a primary, so it is its own control plane, not 'east'\n"
        "  repair: remove the key, or make the role 'remote'",
    ),
    "overlapping pods": (
        "pods: 10.3.0.0/16",
        "pods: 10.1.128.0/17",
        "mesh.yaml:20: 'pods' of cluster 'north' (10.1.128.0/17) overlaps that of cluster 'east' (10.1.0.0/16), "
        "and both clusters are on n1\n  repair: use disjoint ranges, or different networks",
    ),
    "pods with host bits": (
        "pods: 10.3.0.0/16",
        "pods: 10.3.0.1/16",
        "mesh.yaml:20: 'pods' of cluster 'north' is not an address range: 10.3.0.1/16 has host bits set\n"
        "  repair: write it in CIDR notation, for example 10.10.0.0/16",
    ),
    "cluster is text": (
        "clusters:\n",
        "clusters:\n  - south\n",
        "mesh.yaml:5: cluster 1 must be a mapping, not text\n"
        "  repair: give it name, role, network, app_version, control_plane, pods, revision, context, ingress, "
        "east_west",
    ),
    "bad YAML": (
        "mesh_id: mesh1",
        "mesh_id: mesh1: mesh2",
        "mesh.yaml:2: not valid YAML: mapping values are not allowed here\n"
        "  repair: check indentation, colons and quotes",
    ),
}


@pytest.mark.parametrize(("old", "new", "text"), GOLDEN.values(), ids=GOLDEN.keys())
def test_a_wrong_file_is_refused_with_line_reason_and_repair(old: str, new: str, text: str) -> None:
    assert GOOD.count(old) >= 1
    assert refusal(GOOD.replace(old, new, 1)) == text


HEAD = GOOD[: GOOD.index("clusters:")]

WHOLE = {
    "empty file": (
        "# nothing\n",
        "mesh.yaml: the file is empty\n  repair: give it title, mesh_id, trust_domain, clusters",
    ),
    "list": (
        "- a\n",
        "mesh.yaml:1: the topology must be a mapping, not a list\n"
        "  repair: give it title, mesh_id, trust_domain, clusters",
    ),
    "no clusters": (
        HEAD + "clusters: []\n",
        "mesh.yaml:4: 'clusters' is empty\n  repair: list at least one primary cluster",
    ),
    "clusters as a mapping": (
        HEAD + "clusters: {east: {}}\n",
        "mesh.yaml:4: 'clusters' must be a list, not a mapping\n  repair: begin each cluster with '- name: …'",
    ),
    "only remotes": (
        HEAD
        + dedent("""\
        clusters:
          - {name: a, role: remote, control_plane: b, network: n, app_version: v1}
          - {name: b, role: remote, control_plane: a, network: n, app_version: v2}
        """),
        "mesh.yaml:5: no cluster is a primary, so the mesh has no control plane\n  repair: make one 'role: primary'",
    ),
    "two documents": (
        GOOD + "---\n" + GOOD,
        "mesh.yaml:21: not valid YAML: but found another document\n  repair: check indentation, colons and quotes",
    ),
    "not UTF-8": (
        b"title: caf\xe9\n",
        "--topology=mesh.yaml: not UTF-8 at byte 10\n  repair: save the file as UTF-8",
    ),
}


@pytest.mark.parametrize(("content", "text"), WHOLE.values(), ids=WHOLE.keys())
def test_a_file_of_the_wrong_shape_is_refused(content: str | bytes, text: str) -> None:
    assert refusal(content) == text
