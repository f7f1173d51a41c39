"""istioctl as a typed client: one object per cluster, one process with a deadline per call."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.process import run
from meshproof.core.errors import Broken
from meshproof.core.names import SYSTEM_NAMESPACE

READER_ACCOUNT = "istio-reader-service-account"
"""The account whose token goes into remote secrets; the base chart creates it (istioctl create-remote-secret
--help)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A finding of istioctl's analysis. `level` is Error, Warning or Info; `origin` the object, `page` its
    documentation."""

    code: str
    level: str
    text: str
    origin: str
    page: str

    @property
    def weighty(self) -> bool:
        return self.level in ("Error", "Warning")


class Istioctl:
    """istioctl for one cluster. Every method raises `Broken` with the command line if istioctl fails.

    `kubeconfig` is one file, or several joined as in the variable KUBECONFIG.
    """

    def __init__(self, binary: Path, kubeconfig: Path, context: str) -> None:
        self.binary = binary
        self.kubeconfig = kubeconfig
        self.context = context

    def install(self, operator: Mapping[str, Any], *, timeout_s: float = 180.0) -> str:
        """Apply an IstioOperator and wait until its workloads are ready; returns istioctl's output.

        With the profile `remote` there is no workload to wait for.
        """
        return self._run(
            "install",
            "--skip-confirmation",
            f"--readiness-timeout={timeout_s:g}s",
            "--filename=-",
            stdin=json.dumps(operator),  # JSON is YAML
            timeout_s=timeout_s + 30,
        )

    def create_remote_secret(self, name: str, server: str, *, timeout_s: float = 30.0) -> Json:
        """The remote secret for this cluster; apply it in the cluster of the istiod that is to read this one.

        `name` is this cluster's name in the mesh, `server` its API server's URL as reached from the other cluster.
        The manifest contains a token and must not be printed. Needs the account `istio-reader-service-account`.
        """
        text = self._run(
            "create-remote-secret",
            f"--name={name}",
            f"--server={server}",
            f"--service-account={READER_ACCOUNT}",
            "--create-service-account=false",
            timeout_s=timeout_s,
        )
        return remote_secret_of(text, name)

    def set_tag(self, tag: str, revision: str, *, timeout_s: float = 60.0) -> str:
        """Point a tag to a revision, overwriting it; returns istioctl's output."""
        return self._run("tag", "set", tag, f"--revision={revision}", "--overwrite", timeout_s=timeout_s)

    def uninstall(self, revision: str, *, timeout_s: float = 120.0) -> str:
        """Remove what belongs to this revision only; shared objects stay."""
        return self._run("uninstall", f"--revision={revision}", "--skip-confirmation", timeout_s=timeout_s)

    def version(self, *, timeout_s: float = 10.0) -> str:
        """The version of istioctl itself, for example `1.31.0`. Contacts no cluster."""
        text = run([self.binary, "version", "--remote=false", "--short"], timeout_s=timeout_s).strip()
        return text.rpartition(" ")[2]

    def precheck(self, *, timeout_s: float = 45.0) -> tuple[Message, ...]:
        """Reasons against installing or upgrading to istioctl's own version. Writes nothing."""
        return self._messages("experimental", "precheck", timeout_s=timeout_s)

    def analyze(self, *, timeout_s: float = 45.0) -> tuple[Message, ...]:
        """Findings about the configuration of all namespaces."""
        return self._messages("analyze", "--all-namespaces", timeout_s=timeout_s)

    def _messages(self, *command: str, timeout_s: float) -> tuple[Message, ...]:
        return parse_messages(
            self._run(*command, "--output=json", timeout_s=timeout_s, accepted_exit_codes=_FOUND_SOMETHING)
        )

    def _run(
        self,
        command: str,
        *arguments: str,
        timeout_s: float,
        stdin: str = "",
        accepted_exit_codes: Collection[int] = (),
    ) -> str:
        argv = [str(self.binary), command, f"--kubeconfig={self.kubeconfig}"]
        if os.pathsep in str(self.kubeconfig):  # the option takes one file only
            argv = ["env", f"KUBECONFIG={self.kubeconfig}", str(self.binary), command]
        return run(
            [*argv, f"--context={self.context}", *arguments],
            timeout_s=timeout_s,
            stdin=stdin,
            accepted_exit_codes=accepted_exit_codes,
        )


_FOUND_SOMETHING: Final = (1, 79)
"""Exit codes with findings: 1 of `precheck`, 79 of `analyze` (istioctl/pkg/analyze)."""


def parse_messages(text: str) -> tuple[Message, ...]:
    """From `--output=json`; which is empty without findings. Raises `Broken` for anything else."""
    try:
        found = json.loads(text) if text.strip() else []
        return tuple(
            Message(
                code=each["code"],
                level=each["level"],
                text=each["message"],
                origin=str(each.get("origin") or ""),
                page=str(each.get("documentationUrl") or ""),
            )
            for each in found or []
        )
    except (ValueError, KeyError, TypeError):
        raise Broken("findings of istioctl", f"unexpected output: {text[:200]!r}", "run istioctl by hand") from None


def remote_secret_of(text: str, name: str) -> Json:
    """The Secret in the output of `istioctl create-remote-secret`, ready for server-side apply.

    Raises `Broken` (without the output, which contains a token) if there is none.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    except yaml.YAMLError:
        documents = []
    secrets = [document for document in documents if document.get("kind") == "Secret"]
    if len(secrets) != 1:
        raise Broken(
            f"istioctl create-remote-secret --name={name}",
            f"printed {len(secrets)} Secrets, expected 1",
            "run it by hand and check its output (it contains a token)",
        )
    meta = secrets[0]["metadata"]
    manifest: Json = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": meta["name"],
            "namespace": meta.get("namespace", SYSTEM_NAMESPACE),
            "labels": meta.get("labels", {}),
            "annotations": meta.get("annotations", {}),
        },
    }
    return manifest | {key: secrets[0][key] for key in ("type", "data", "stringData") if key in secrets[0]}
