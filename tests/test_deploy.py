"""deploy/: an image that cannot be built here, and manifests. What they name is there, and goes together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures import junit
from meshproof import __version__
from meshproof.cli import in_cluster as inside
from meshproof.run.settings import OPTIONS, read_settings
from tests.containerfile import TOP, Containerfile
from tools.docs.cluster_role import READ_SECRETS, VERIFY

DEPLOY = TOP / "deploy"
IMAGE = Containerfile.read()


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


(JOB,) = manifests("job.yaml")
(PLUGIN,) = manifests("sonobuoy-plugin.yaml")
POD = JOB["spec"]["template"]["spec"]
RUN, RESULTS = POD["containers"]
DOCUMENT = (TOP / "docs" / "inside.md").read_text()


def filled(container: dict[str, Any]) -> list[str]:
    """The arguments as the kubelet gives them."""
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    return [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], argument) for argument in container["args"]]


# -- the image --------------------------------------------------------------------------------------------------------


def test_what_is_copied_into_the_image_is_there_and_is_let_in() -> None:
    files, folders = {"requirements.lock", "conftest.py", "pytest.ini"}, {"fixtures", "suites", "src", "topologies"}
    assert set(IMAGE.copies) == files | folders
    assert all((TOP / file).is_file() for file in files)
    assert all((TOP / folder).is_dir() for folder in folders)
    ignored = [line for line in (TOP / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line[0] == "!"} == set(IMAGE.copies)


def test_links_lead_to_what_is_in_the_image_too() -> None:
    """The topologies of the library are a link to those at the top: it would lead nowhere, and the lab uses its own."""
    links = [p for source in IMAGE.copies for p in (TOP / source).rglob("*") if p.is_symlink()]
    assert links
    for link in links:
        assert link.resolve().relative_to(TOP).parts[0] in IMAGE.copies, link


def test_the_base_is_pinned_and_packages_come_by_hash() -> None:
    (base,) = IMAGE.all("ARG")
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", base)
    assert IMAGE.one("FROM") == "${BASE}"
    (install,) = (words for words in IMAGE.all("RUN") if "pip install" in words)
    assert "--require-hashes" in install
    assert "--requirement requirements.lock" in install
    removed = install.split("pip uninstall --yes ")[1].split()
    locked = re.findall(r"^([\w.-]+)==", (TOP / "requirements.lock").read_text(), re.MULTILINE)
    assert set(removed) <= set(locked)


def test_the_image_is_nobody_and_starts_the_wrapper() -> None:
    uid, gid = IMAGE.one("USER").split(":")
    assert int(uid) == POD["securityContext"]["runAsUser"] == PLUGIN["spec"]["securityContext"]["runAsUser"] > 0
    assert int(gid) == POD["securityContext"]["runAsGroup"] == PLUGIN["spec"]["securityContext"]["runAsGroup"] > 0
    assert IMAGE.entrypoint == ["python", "-m", "meshproof.cli.in_cluster"]
    assert IMAGE.environment["PYTHONPATH"] == f"{IMAGE.one('WORKDIR')}/{IMAGE.copies['src']}"
    assert (TOP / "src" / "meshproof" / "cli" / "in_cluster.py").exists()


@pytest.mark.parametrize("name", ["Containerfile", "job.yaml", "sonobuoy-plugin.yaml"])
def test_every_tag_is_this_version(name: str) -> None:
    assert set(re.findall(r"\bmeshproof:([\w.]+)", (DEPLOY / name).read_text())) == {__version__}


# -- the Job ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [RUN, PLUGIN["spec"]], ids=["job", "sonobuoy"])
def test_the_arguments_are_those_of_a_verify_pass(container: dict[str, Any], tmp_path: Path) -> None:
    """As they stand there, with empty names of images, the wrapper and the options take them."""
    given = inside.parser().parse_args(filled(container))
    assert given.action == "run"
    (tmp_path / "config").touch()
    argv = inside.command(tmp_path, given.options)
    flags = dict(word.split("=", 1) for word in argv if word.startswith("--"))
    known = {option.flag: option.dest for option in OPTIONS}
    values = {known[flag]: value for flag, value in flags.items()}
    settings = read_settings(values, root=tmp_path, environment={"KUBECONFIG": str(tmp_path / "config")})
    assert [topology.name for topology in settings.topologies] == ["primary-remote-multinet"]
    assert (settings.installs, settings.may_disrupt, settings.may_make_credentials) == (False, False, False)
    assert settings.attachment is not None
    assert settings.attachment.images == {}
    assert settings.report_dir == tmp_path


def test_the_times_of_the_job_fit_into_each_other() -> None:
    run, keep = inside.parser().parse_args(filled(RUN)), inside.parser().parse_args(RESULTS["args"])
    assert keep.action == "keep"
    assert run.limit == keep.limit
    assert run.limit + inside.GRACE_S + keep.for_s < JOB["spec"]["activeDeadlineSeconds"]
    assert POD["terminationGracePeriodSeconds"] > inside.GRACE_S


def test_both_containers_of_the_job_share_the_folder_of_results() -> None:
    assert RUN["image"] == RESULTS["image"]
    for container in (RUN, RESULTS):
        (mount,) = (m for m in container["volumeMounts"] if m["name"] == "results")
        assert mount["mountPath"] == str(inside.parser().parse_args(container["args"]).results)


def test_the_job_runs_once_without_a_sidecar_and_without_privileges() -> None:
    assert (JOB["spec"]["backoffLimit"], POD["restartPolicy"]) == (0, "Never")
    assert JOB["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert POD["securityContext"]["runAsNonRoot"] is True
    for container in (RUN, RESULTS, PLUGIN["spec"]):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["imagePullPolicy"] == "IfNotPresent"


def test_the_account_is_the_jobs_and_has_the_roles_for_a_verify_pass() -> None:
    namespace, account, *bindings = manifests("account.yaml")
    name = (account["metadata"]["namespace"], account["metadata"]["name"])
    assert name == (JOB["metadata"]["namespace"], POD["serviceAccountName"])
    assert namespace["metadata"]["name"] == JOB["metadata"]["namespace"]
    assert [b["roleRef"]["name"] for b in bindings] == [VERIFY, READ_SECRETS]
    for binding in bindings:
        assert [(s["namespace"], s["name"]) for s in binding["subjects"]] == [name]


def test_the_kubeconfig_is_where_the_run_looks_for_it() -> None:
    (config,) = manifests("kubeconfig.yaml")
    assert [context["name"] for context in config["contexts"]] == ["cluster1", "cluster2"]
    assert set(re.findall(r'"@(\w+)@"', (DEPLOY / "kubeconfig.yaml").read_text())) == {"SERVER", "CA", "TOKEN"}
    for container, volumes in ((RUN, POD["volumes"]), (PLUGIN["spec"], PLUGIN["extra-volumes"])):
        (mount,) = (m for m in container["volumeMounts"] if m["name"] == "kubeconfig")
        assert {"name": "KUBECONFIG", "value": f"{mount['mountPath']}/config"} in container["env"]
        (secret,) = (v["secret"]["secretName"] for v in volumes if v["name"] == "kubeconfig")
        assert f"secret generic {secret} " in DOCUMENT


# -- Sonobuoy ---------------------------------------------------------------------------------------------------------


def test_the_plugin_is_one_job_with_junit_results_where_its_worker_looks() -> None:
    config, spec = PLUGIN["sonobuoy-config"], PLUGIN["spec"]
    assert (config["driver"], config["result-format"]) == ("Job", "junit")
    assert config["result-files"] == [junit.FILE_NAME, inside.RUN]
    given = inside.parser().parse_args(filled(spec))
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["volumeMounts"]}
    assert str(given.sonobuoy) == mounts["results"] == "/tmp/sonobuoy/results"
    assert given.results.is_relative_to(mounts["tmp"])
    assert set(mounts) - {"results"} == {volume["name"] for volume in PLUGIN["extra-volumes"]}


# -- the document -----------------------------------------------------------------------------------------------------


def test_the_document_names_containers_and_actions_that_are_there() -> None:
    for container in re.findall(r" -c (\w+)", DOCUMENT):
        assert container in (RUN["name"], RESULTS["name"])
    for action in re.findall(r"meshproof\.inside (\w+)", DOCUMENT):
        assert action in ("run", "keep", "fetch")
