"""Keys of kubeconfigs lie in files while a process lives, and no longer than until the next one begins."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.processes import line_of, started

PROGRAM = """\
import sys
from pathlib import Path
from meshproof.clients.kubernetes.client import Kube
print(Kube(Path(sys.argv[1]), "c").server, flush=True)
sys.stdin.read()
"""
KEY = "a key, as far as a file knows"


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    data = base64.b64encode(KEY.encode()).decode()
    path = tmp_path / "kubeconfig"
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1", "insecure-skip-tls-verify": True}}],
        "users": [{"name": "c", "user": {"client-key-data": data, "client-certificate-data": data}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """For temporary files."""
    made = tmp_path / "temporary"
    made.mkdir()
    return made


@contextmanager
def reader(kubeconfig: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has read the kubeconfig, and lives until its standard input ends."""
    argv = [sys.executable, "-c", PROGRAM, str(kubeconfig)]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with started(argv, env=environment, stdin=subprocess.PIPE) as process:
        assert line_of(process) == "https://192.0.2.1"
        yield process


def keys_in(folder: Path) -> list[Path]:
    """Files with the key; in folders that only their owner may enter."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.read_text() == KEY]
    assert all(path.parent.stat().st_mode & 0o777 == 0o700 and path.parent != folder for path in found)
    return found


def test_keys_go_with_their_process(kubeconfig: Path, folder: Path) -> None:
    with reader(kubeconfig, folder) as process:
        assert len(keys_in(folder)) == 1
        process.communicate("", timeout=30)
    assert list(folder.iterdir()) == []


def test_keys_of_a_process_that_was_killed_go_when_the_next_begins_and_those_of_the_living_stay(
    kubeconfig: Path, folder: Path
) -> None:
    with reader(kubeconfig, folder) as killed, reader(kubeconfig, folder) as alive:
        assert len(keys_in(folder)) == 2
        killed.kill()
        killed.wait(timeout=30)
        assert len(keys_in(folder)) == 2, "nobody could remove them"
        with reader(kubeconfig, folder) as third:
            assert len(keys_in(folder)) == 2, "the third one's own, and those of the living"
            third.communicate("", timeout=30)
        assert len(keys_in(folder)) == 1
        alive.communicate("", timeout=30)
    assert list(folder.iterdir()) == []
