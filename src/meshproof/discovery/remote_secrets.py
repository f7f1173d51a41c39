"""Remote secrets: the credentials by which an istiod reads another cluster, and whether they work.

Tokens and kubeconfigs are never shown: records hide them, and they go into pods by standard input only.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import yaml

from meshproof.clients.istio.reader_rights import reader_rights
from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json, Kube
from meshproof.clients.kubernetes.rbac import each_right, right_text
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES, HORIZONS
from meshproof.core.errors import Broken, Unavailable
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki.verify import parse_chain
from meshproof.probes.pod_script import STDIN_FILES, stdin_of

LABEL: Final = "istio/multiCluster"
ANNOTATION: Final = "networking.istio.io/cluster"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RemoteSecret:
    """One cluster in one secret. `problem` says why its kubeconfig cannot be used; `repr` shows no credentials."""

    namespace: str
    secret: str
    cluster: str
    annotated: str
    server: str = ""
    ca: str = ""
    token: str = ""
    certificate: str = ""
    key: str = ""
    insecure: bool = False
    problem: str = ""

    def __repr__(self) -> str:
        return f"RemoteSecret({self.namespace}/{self.secret}, {self.cluster}, {self.server})"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.secret}"

    @property
    def ends(self) -> datetime | None:
        """When the token, or the client certificate, ends; None if it never does, or is no JWT (RFC 7519)."""
        if self.certificate and not self.token:
            return parse_chain(self.certificate)[0].not_valid_after_utc
        try:
            return datetime.fromtimestamp(float(token_claims(self.token)["exp"]), UTC)
        except (KeyError, TypeError, ValueError):
            return None


def token_claims(token: str) -> Json:
    """The claims of a JWT (RFC 7519), unverified; empty if it is none."""
    try:
        part = token.split(".")[1]
        return _parsed(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, binascii.Error):
        return {}


def remote_secrets(kube: Kube) -> tuple[RemoteSecret, ...]:
    """Every remote secret of a cluster, wherever it lies. Raises `Unavailable` if the user may not read them."""
    try:
        secrets = kube.list("Secret", labels=f"{LABEL}=true")
    except ApiError as problem:
        if problem.status != FORBIDDEN:
            raise
        raise Unavailable(
            f"remote secrets of {kube.name}",
            problem.reason,
            "ask for the right to list secrets (docs/attach.md)",
        ) from None
    return tuple(found for secret in secrets for found in parse_secret(secret))


def parse_secret(secret: Json) -> Iterator[RemoteSecret]:
    """One record for each key, which is the cluster's id (pkg/kube/multicluster/secretcontroller.go)."""
    meta = secret["metadata"]
    for cluster, text in (secret.get("data") or {}).items():
        record = {
            "namespace": meta["namespace"],
            "secret": meta["name"],
            "cluster": cluster,
            "annotated": (meta.get("annotations") or {}).get(ANNOTATION, ""),
        }
        try:
            config = yaml.safe_load(base64.b64decode(text))
            yield RemoteSecret(**record, **_parts(config))
        except (binascii.Error, yaml.YAMLError, KeyError, TypeError, StopIteration, ValueError):
            yield RemoteSecret(**record, problem="holds no usable kubeconfig")


def _parts(config: Json) -> Json:
    """Server, CA, and token or client certificate of the current context. `KeyError`, `TypeError` or `StopIteration` if
    it has none."""
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
    ca = base64.b64decode(cluster.get("certificate-authority-data") or "").decode()
    given = (user.get(f"client-{part}-data") or "" for part in ("certificate", "key"))
    certificate, key = (base64.b64decode(text).decode() for text in given)
    usable = user.get("token") or (certificate and key and parse_chain(certificate))
    other = sorted(set(user) - {"token"})
    return {
        "server": cluster["server"],
        "ca": ca,
        "token": user.get("token") or "",
        "insecure": bool(cluster.get("insecure-skip-tls-verify")),
        "certificate": certificate,
        "key": key,
        "problem": "" if usable else f"has no token (but {', '.join(other) or 'nothing'})",
    }


def written_problems(found: Iterable[RemoteSecret], wanted: str, now: datetime, horizon: timedelta) -> list[str]:
    """What is wrong with the secret for the cluster `wanted` of an istiod, by its content."""
    mine = [secret for secret in found if secret.cluster == wanted]
    here = [secret for secret in mine if secret.namespace == names.SYSTEM_NAMESPACE]
    problems = [
        f"{secret} is not in {names.SYSTEM_NAMESPACE}, where istiod looks" for secret in mine if secret not in here
    ]
    if not here:
        return [*problems, f"no secret in {names.SYSTEM_NAMESPACE} with label {LABEL}=true has the key {wanted}"]
    if len(here) > 1:
        problems.append(f"{', '.join(map(str, here))} have it: istiod uses one and rejects the others")
    for secret in here:
        if secret.problem:
            problems.append(f"{secret} {secret.problem}")
            continue
        if secret.annotated and secret.annotated != wanted:
            problems.append(f"{secret} has the key {wanted}, its annotation {ANNOTATION} is {secret.annotated}")
        if secret.insecure or not secret.ca:
            problems.append(f"{secret} does not verify the API server's certificate")
        host = urlsplit(secret.server).hostname or ""
        if host in ("localhost", "::1") or host.startswith("127."):
            problems.append(f"{secret} has the server {secret.server}, which for istiod is its own pod")
        if secret.ends and secret.ends < now + horizon:
            state = "expired" if secret.ends < now else "expires"
            what = "token" if secret.token else "client certificate"
            problems.append(f"{secret}: its {what} {state} at {secret.ends:%Y-%m-%d %H:%M} UTC")
    return problems


# -- in use ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the credentials give access to from inside istiod's cluster.

    `uid` is that of the namespace kube-system there, which identifies the cluster; `denied` the missing
    rights. With `error` the API server was not reached, did not verify, or did not know the token.
    """

    uid: str = ""
    denied: tuple[str, ...] = ()
    error: str = ""


_SCRIPT: Final = (
    STDIN_FILES
    + """
limit=$1
curl -s -S --fail-early --max-time "$limit" --cacert ca -K calls 2>error
echo "meshproof exit $?"; cat error
"""
)


def try_secret(kube: Kube, pod: PodFacts, secret: RemoteSecret, *, controlled: bool) -> Access:
    """Use a remote secret from a client pod of istiod's own cluster, as istiod does: one connection, many requests."""
    wanted = list(each_right(reader_rights(controlled=controlled)))
    base = secret.server.rstrip("/")
    calls = [_call(f"{base}/api/v1/namespaces/kube-system", secret)]
    url = f"{base}/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    calls += [_call(url, secret, _review(*each)) for each in wanted]
    argv = ["sh", "-c", _SCRIPT, "sh", f"{DEADLINES.connect_s + 2:g}"]
    files = {"ca": secret.ca, "calls": "next\n".join(calls)}
    files |= {"cert": secret.certificate, "key": secret.key} if not secret.token else {}
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD, stdin=stdin_of(files), timeout_s=60)
    return parse_access(answer.stdout, [right_text(*each) for each in wanted])


def _call(url: str, secret: RemoteSecret, body: Json | None = None) -> str:
    """One request in the syntax of curl's configuration, whose quoting is JSON's."""
    token = f"header = {json.dumps(f'Authorization: Bearer {secret.token}')}"
    lines = [f"url = {json.dumps(url)}", *([token] if secret.token else ['cert = "cert"', 'key = "key"'])]
    # `next` forgets everything but the global options.
    lines += ['cacert = "ca"', f'max-time = "{DEADLINES.connect_s + 2:g}"', "silent", "show-error"]
    lines += ['write-out = "\\nmeshproof status %{http_code}\\n"']
    if body is not None:
        lines += ['header = "Content-Type: application/json"', f"data = {json.dumps(json.dumps(body))}"]
    return "\n".join(lines) + "\n"


def _review(group: str, resource: str, verb: str) -> Json:
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"group": group, "resource": resource, "verb": verb}},
    }


_ENDED: Final = re.compile(r"\nmeshproof status (\d+)\n")


def parse_access(text: str, wanted: list[str]) -> Access:
    """From the output of the script above: bodies, each followed by its status, then curl's exit code."""
    answers, _, end = text.rpartition("meshproof exit ")
    if not end:
        raise Broken("trying a remote secret", "curl printed nothing", "the client image needs sh and curl")
    code, _, complaint = end.partition("\n")
    pieces = _ENDED.split(answers)
    replies = list(zip(pieces[1::2], pieces[0::2], strict=False))
    if replies and replies[0][0] == "401":
        return Access(error="the API server rejects the token (HTTP 401)")
    if code.strip() != "0":
        return Access(error=complaint.strip().splitlines()[0][:200] if complaint.strip() else f"curl exit code {code}")
    if len(replies) != len(wanted) + 1:
        raise Broken("trying a remote secret", f"{len(replies)} of {len(wanted) + 1} answers", "try again")
    body = replies[0][1]
    uid = _parsed(body).get("metadata", {}).get("uid", "")
    denied = tuple(
        what
        for what, (_, review) in zip(wanted, replies[1:], strict=True)
        if not _parsed(review).get("status", {}).get("allowed")
    )
    return Access(uid=uid, denied=denied)


def _parsed(text: str | bytes) -> Json:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def access_problems(access: Access, own_uid: str, uids: Mapping[str, str], wanted: str) -> list[str]:
    """What is wrong with credentials for the cluster `wanted`; `uids` are the clusters' own, `own_uid` istiod's."""
    if access.error:
        return [f"from istiod's network: {access.error}"]
    verbs: dict[str, list[str]] = {}
    for what in access.denied:
        verb, _, resource = what.partition(" ")
        verbs.setdefault(resource, []).append(verb)
    problems = [f"its token may not {', '.join(missing)} {resource}" for resource, missing in verbs.items()]
    if access.uid and access.uid != uids[wanted]:
        whose = next((name for name, uid in uids.items() if uid == access.uid), "a cluster that is not in the mesh")
        own = ", istiod's own" if access.uid == own_uid else ""
        problems.insert(0, f"it leads to {whose}{own}, not to {wanted}")
    return problems


def _usable(found: tuple[RemoteSecret, ...], other: Cluster) -> list[RemoteSecret]:
    """Those for `other` that istiod would read, and that can be tried."""
    return [
        s for s in found if s.cluster == other.name and s.namespace == names.SYSTEM_NAMESPACE and not s.problem and s.ca
    ]


def secret_problems(
    snapshot: Snapshot,
    primary: Cluster,
    other: Cluster,
    found: tuple[RemoteSecret, ...],
    uids: Mapping[str, str],
    now: datetime,
) -> list[str]:
    """What is wrong with the secrets for `other` among those `found` in `primary`, by content and in use;
    `uids` by cluster name are as in `meshproof.mesh.objects.cluster_uid`."""
    problems = written_problems(found, other.name, now, HORIZONS.remote_token)
    for secret in _usable(found, other):
        controlled = snapshot.mesh.control_plane_of(other) is primary
        access = try_secret(primary.kube, snapshot.of(primary).outside, secret, controlled=controlled)
        problems += [f"{secret}: {p}" for p in access_problems(access, uids[primary.name], uids, other.name)]
    return problems
