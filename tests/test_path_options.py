"""Every option that names a file or folder: what cannot be used is named with the reason and the repair."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshproof.claims.evidence import Evidence
from meshproof.cli import in_cluster as inside
from meshproof.cli import main as cli
from meshproof.core.errors import BadInput, Broken
from meshproof.core.path_options import program_file, read_text, readable_file, writable_file, writable_folder
from tools.benchmarks import measure

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]

# What is wrong with a path, and the reason that is given. All of it holds for root, too: /proc/self/mem cannot be read
# from its begin, /proc takes no new file, and /dev/full is always full.
TO_READ = {
    "nowhere.yaml": "no such file",
    ".": "is a folder, not a file",
    "file/x.yaml": "a parent folder is a file, not a folder",
    "/proc/self/mem": "Input/output error",
    f"/tmp/{'x' * 300}": "File name too long",
}
FOLDER_TO_WRITE = {
    "file": "is a file, not a folder",
    "file/x": "cannot be created: Not a directory",
    "/proc/x": "cannot be created: No such file or directory",
    "/proc": "cannot be written to: *",
    "x" * 300: "cannot be created: File name too long",
}
FILE_TO_WRITE = {
    ".": "is a folder, not a file",
    "nowhere/x": "no such folder",
    "file/x": "no such folder",
    "/proc/x": "no such file",
    "x" * 300: "File name too long",
}
NOT_YAML = "not UTF-8 at byte 0"
NOT_A_PROGRAM = {"file": "is not executable", "/dev/null": "is not a regular file"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    for variable in ("MESHPROOF_STATE", "MESHPROOF_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    tmp_path.chmod(0o700)


# -- pytest -----------------------------------------------------------------------------------------------------------

ON_KUBECONFIG = ("--provider=kubeconfig", "--kubeconfig=kubeconfig")
INSTALLING = (*ON_KUBECONFIG, "--mesh=install")
PYTEST_OPTIONS = [
    *((("--topology",), path, reason) for path, reason in (TO_READ | {"./file": NOT_YAML}).items() if "/" in path),
    *((("--kubeconfig",), path, reason) for path, reason in (TO_READ | {"/dev/null": "is not a regular file"}).items()),
    *(((*ON_KUBECONFIG, "--istioctl"), path, reason) for path, reason in (TO_READ | NOT_A_PROGRAM).items()),
    *(((*INSTALLING, "--istio-values"), path, reason) for path, reason in (TO_READ | {"file": NOT_YAML}).items()),
    *((("--report-dir",), path, reason) for path, reason in FOLDER_TO_WRITE.items()),
]


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\npytest_plugins = ['fixtures.options']\n")
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider")
    pytester.makepyfile(test_it="def test_it(): pass")
    (pytester.path / "file").write_bytes(b"\xff\xfe")
    (pytester.path / "kubeconfig").write_text("contexts: []")
    return pytester


@pytest.mark.parametrize(("options", "path", "reason"), PYTEST_OPTIONS)
def test_a_path_that_pytest_cannot_use_is_a_usage_error(
    run: pytest.Pytester, options: Sequence[str], path: str, reason: str
) -> None:
    *others, option = options
    result = run.runpytest(*others, f"{option}={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}={path}: {reason}", "  repair: *"])


def test_a_report_folder_is_made_and_left_empty(run: pytest.Pytester) -> None:
    run.runpytest("--report-dir=new/reports").assert_outcomes(passed=1)
    assert list((run.path / "new" / "reports").iterdir()) == []


# -- the command line -------------------------------------------------------------------------------------------------

COMMAND_OPTIONS = [
    *(
        ((*command.split(), f"--topology={path}"), f"--topology={path}", reason)
        for command in ("fault list", "diagram", "upgrade check --to=1.31 --report-dir=r", "upgrade record")
        for path, reason in (TO_READ | {"./file": NOT_YAML}).items()
        if "/" in path
    ),
    *(
        ((*command.split(), f"--kubeconfig={path}"), f"--kubeconfig={path}", reason)
        for command in ("detect", "upgrade check --to=1.31 --report-dir=r", "upgrade record")
        for path, reason in TO_READ.items()
    ),
    *((("diagram", f"--verdict={path}"), f"--verdict={path}", reason) for path, reason in TO_READ.items()),
    *((("diagram", "-o", path), f"-o {path}", reason) for path, reason in FILE_TO_WRITE.items()),
    *((("upgrade", "record", "-o", path), f"-o {path}", reason) for path, reason in FILE_TO_WRITE.items()),
    *((("upgrade", "compare", path), f"record {path}", reason) for path, reason in TO_READ.items()),
    *(
        (("upgrade", "check", "--to=1.31", f"--istioctl={path}"), f"--istioctl={path}", reason)
        for path, reason in (TO_READ | NOT_A_PROGRAM).items()
    ),
    *(
        (("upgrade", "check", "--to=1.31", f"--report-dir={path}"), f"--report-dir={path}", reason)
        for path, reason in FOLDER_TO_WRITE.items()
    ),
]


@pytest.mark.parametrize(("argv", "named", "reason"), COMMAND_OPTIONS)
def test_a_path_that_a_command_cannot_use_is_wrong_input(
    argv: Sequence[str], named: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    message = capsys.readouterr().err.partition("meshproof: ")[2]  # `upgrade check` has told its first step by then
    assert message.startswith(f"{named}: {reason.rstrip('*')}")
    assert "\n  repair: " in message


def test_a_topology_of_a_lab_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "up", "--topology=./nowhere.yaml"]) == 2
    assert capsys.readouterr().err == (
        "meshproof: --topology=./nowhere.yaml: no such file\n  repair: name a readable YAML file\n"
    )


@pytest.mark.parametrize(("path", "reason"), TO_READ.items())
def test_a_report_that_measure_cannot_read(path: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("docs").mkdir()
    assert measure.main(["--upgrades", path]) == 2
    reason = {"/proc/self/mem": "a parent folder", ".": "no such file"}.get(path, reason)
    told = capsys.readouterr().err
    assert told.startswith(f"meshproof: --upgrades {path}: verdict.yaml: {reason}")
    assert "\n  repair: name the --report-dir of a run\n" in told
    assert list(Path("docs").iterdir()) == []


@pytest.mark.parametrize("option", ["--results", "--sonobuoy"])
@pytest.mark.parametrize(("path", "reason"), FOLDER_TO_WRITE.items())
def test_a_folder_that_a_run_in_a_cluster_cannot_write_to(
    option: str, path: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside.main(["run", "--results=results", f"{option}={path}"]) == 2
    assert capsys.readouterr().err.startswith(f"meshproof: {option}={path}: {reason.rstrip('*')}")


def test_a_disk_that_is_full_is_told_when_the_file_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagram", "--topology=multi-primary-samenet", "-o", "/dev/full"]) == 2
    assert capsys.readouterr().err == (
        "meshproof: -o /dev/full: No space left on device\n  repair: name a file in an existing folder\n"
    )


@pytest.mark.parametrize("command", ["diagram --topology=multi-primary-samenet", "fault list"])
def test_a_standard_output_that_is_full_is_told(command: str) -> None:
    argv = [sys.executable, "-m", "meshproof.cli.main", *command.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        2,
        "meshproof: standard output: No space left on device\n  repair: redirect it to a writable file\n",
    )


# -- the checks themselves --------------------------------------------------------------------------------------------


def test_what_can_be_used_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("text")
    assert readable_file("x", Path("there"), "repair") == there
    assert read_text("x", there, "repair") == "text"
    assert writable_file("x", there).read_text() == "text"
    assert not writable_file("x", tmp_path / "new").exists()
    assert writable_folder("x", Path("a/b")) == tmp_path / "a" / "b"
    there.chmod(0o755)
    assert program_file("x", there, "repair") == there


def test_a_pipe_is_read_once_and_never_opened_for_a_trial(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    assert read_text("x", Path(f"/dev/fd/{reader}"), "repair") == "from a pipe"
    os.close(reader)
    os.mkfifo(tmp_path / "fifo")
    assert writable_file("x", tmp_path / "fifo") == tmp_path / "fifo"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_permissions_are_those_of_the_user(tmp_path: Path) -> None:
    closed = Path("/root") if Path("/root").stat().st_mode & 0o007 == 0 else tmp_path
    os.seteuid(65534)
    try:
        with pytest.raises(BadInput, match="permission denied"):
            readable_file("x", closed / "file", "repair")
        with pytest.raises(BadInput, match="Permission denied"):
            writable_folder("x", closed / "folder")
    finally:
        os.seteuid(0)


def test_evidence_that_cannot_be_written_breaks_the_claim() -> None:
    with pytest.raises(Broken, match=r"evidence /proc/x/seen\.txt: no such file"):
        Evidence(Path("/proc/x")).attach("seen", "what was seen")
