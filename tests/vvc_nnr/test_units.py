"""Units of work: shares, failures, killed workers, interrupted runs, and the same in every place."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from executors import Spin, local_cluster, spin, spun

from vvc_nnr.errors import InputError
from vvc_nnr.executors import Lost, SlurmSettings, _has_accounting, _parameters, _Queue, _result_of
from vvc_nnr.units import ExecutorOptions, Failure, UnitsError, _jobs, _tasks, log_path, n_at_once, run_units, share_of

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LONG_S = 60.0
RUN = """
import signal
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from executors import Spin, spun
from vvc_nnr.experiments.cli.main import Interrupted, run_interruptible
from vvc_nnr.units import ExecutorOptions
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has not
units = [Spin(f"unit{number}", 60.0) for number in range(4)]
try:
    run_interruptible(lambda: spun(units, ExecutorOptions(workers=2), Path(sys.argv[2])))
except Interrupted as error:
    sys.exit(error.exit_code)
"""
NAMES = [f"unit{number}" for number in range(6)]
FAILING = Failure("unit2", "ValueError: unit2 cannot be done")


def units(**deeds: str) -> list[Spin]:
    return [Spin(name, 0.01 * number, deeds.get(name, "")) for number, name in enumerate(NAMES)]


def done(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("unit?")}


@pytest.mark.parametrize("n_shares", [1, 2, 3, 7, 40])
def test_shares_are_parts_of_the_whole_that_take_about_equally_long(n_shares: int) -> None:
    all_units = [Spin(f"unit {number}", 1.0 + number % 5) for number in range(200)]
    shares = [share_of(all_units, (number + 1, n_shares)) for number in range(n_shares)]
    assert [unit for share in shares for unit in share] == all_units
    costs_s = [sum(unit.cost_s for unit in share) for share in shares]
    assert max(costs_s) - min(costs_s) <= 2 * 5.0
    assert share_of([], (1, n_shares)) == []
    assert share_of([Spin("free", 0.0)], (1, 1)) == [Spin("free", 0.0)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "workers: 0, must be 1 to 256"),
        ({"workers": 2, "dask": "tcp://a:1"}, "workers, dask: units run in one place"),
        ({"dask": "tcp://a:1", "slurm": "array=2"}, "dask, slurm: units run in one place"),
        ({"shard": (0, 4)}, "shard: 0/4, must be I/N with I from 1 to N"),
        ({"shard": (5, 4)}, "shard: 5/4, must be"),
        ({"slurm": "short"}, "slurm: 'short' must be NAME=VALUE"),
        ({"slurm": "array=0"}, "slurm: array=0: must be a whole number of at least 1"),
        ({"slurm": "time=1,time=2"}, "slurm: time is there twice"),
        ({"slurm": "cluster=moon"}, "slurm: cluster=moon: must be slurm or local"),
    ],
)
def test_options_that_cannot_be(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ExecutorOptions(**given)  # type: ignore[arg-type]


def test_settings_of_slurm() -> None:
    found = SlurmSettings.parse("partition=short,array=8,time=240,mem_gb=4,cpus=2,account=a-b")
    assert found == SlurmSettings("slurm", 8, 240, 4, 2, (("partition", "short"), ("account", "a-b")))


def test_what_cannot_be_reached_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch is not on the PATH"):
        spun(units(), ExecutorOptions(slurm="partition=short"), tmp_path)
    monkeypatch.setattr("vvc_nnr.executors.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"dask: the package distributed is not installed; pip install 'vvc-nnr\[dask"):
        spun(units(), ExecutorOptions(dask="tcp://127.0.0.1:9"), tmp_path)


def test_short_work_stays_in_this_process() -> None:
    assert n_at_once([Spin("a", 1.0), Spin("b", 1.0)], ExecutorOptions()) == 1
    assert n_at_once([Spin("a", 1.0)], ExecutorOptions(workers=8)) == 1
    assert n_at_once([Spin(name, 1000.0) for name in NAMES], ExecutorOptions(workers=4)) == 4
    assert n_at_once([], ExecutorOptions()) == 1
    assert n_at_once(units(), ExecutorOptions(dask="tcp://a:1")) is None


@pytest.mark.parametrize("options", [ExecutorOptions(workers=1), ExecutorOptions(workers=2)], ids=["one", "two"])
def test_a_unit_that_fails_stops_no_other(tmp_path: Path, options: ExecutorOptions) -> None:
    assert spun(units(unit2="fail"), options, tmp_path) == [FAILING]
    assert done(tmp_path) == {*NAMES} - {"unit2"}
    assert log_path(tmp_path / "logs", "unit2").read_text().startswith("Traceback")
    error = UnitsError([FAILING], 6, tmp_path / "logs")
    assert str(error).startswith(
        "1 of 6 units failed: unit2: ValueError: unit2 cannot be done. All others that need nothing"
    )
    assert error.cli_exit_code == 1
    assert UnitsError([Failure("a", "no file", is_known=True)], 6, tmp_path).cli_exit_code == 2


def test_an_executor_of_ones_own_and_what_is_made_already(tmp_path: Path) -> None:
    (tmp_path / "unit1").write_bytes(b"of an earlier run")
    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(UnitsError, match="1 of 6 units failed: unit2") as caught:
            run_units(
                lambda unit: spin(tmp_path, unit),
                units(unit2="fail"),
                lambda unit: (tmp_path / unit.name).exists(),
                ExecutorOptions(),
                tmp_path / "logs",
                title="spinning",
                executor=executor,
            )
        assert caught.value.failures == (FAILING,)
        assert executor.submit(abs, -1).result() == 1
    assert done(tmp_path) == {*NAMES} - {"unit2"}
    assert (tmp_path / "unit1").read_bytes() == b"of an earlier run"


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
@pytest.mark.parametrize(
    ("deeds", "lost"),
    [
        ({"unit1": "die once"}, []),
        ({"unit4": "die"}, [Failure("unit4", "its process was killed (out of memory?)")]),
    ],
    ids=["once", "each time"],
)
def test_killed_workers_take_no_other_unit_with_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, deeds: dict[str, str], lost: list[Failure]
) -> None:
    assert spun(units(**deeds), ExecutorOptions(workers=2), tmp_path) == lost
    assert done(tmp_path) == {*NAMES} - {each.unit for each in lost}
    repeated = told_repeats(caplog)
    assert repeated >= {*deeds}
    for name in repeated:
        told = f"{name}: a worker process was killed (out of memory?); what it had not finished runs again"
        assert told in caplog.messages


def told_repeats(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The units that were handed out again, as the last line of the log has them."""
    (last,) = [text for text in caplog.messages if "were handed out again" in text]
    head, _, names = last.partition(": ")
    assert (
        head == f"{len(names.split('; '))} of 6 units were handed out again, since the worker that had them was killed"
    )
    return set(names.split("; "))


def children_of(parent: int) -> set[int]:
    """Numbers of the processes below a process that run."""
    parents = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, above = Path("/proc", number, "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(number)] = int(above)
    found, n_before = {parent}, 0
    while len(found) > n_before:
        n_before = len(found)
        found |= {number for number, above in parents.items() if above in found}
    return found - {parent}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_worker_outlives_the_run(tmp_path: Path, name: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(BENCHMARKS), str(tmp_path)], stderr=subprocess.PIPE)
    workers: set[int] = set()
    while sum(b"spawn_main" in Path("/proc", str(number), "cmdline").read_bytes() for number in workers) < 2:
        assert process.poll() is None
        time.sleep(0.05)
        workers = {number for number in children_of(process.pid) if Path("/proc", str(number)).exists()}
    time.sleep(1.0)
    process.send_signal(getattr(signal, name))
    error = process.communicate()[1]
    assert process.returncode == (-signal.SIGKILL if name == "SIGKILL" else 128 + getattr(signal, name)), error
    assert b"Traceback" not in error
    end_s = time.monotonic() + LONG_S
    while any(Path("/proc", str(number)).exists() for number in workers) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not [number for number in workers if Path("/proc", str(number)).exists()]
    assert not done(tmp_path)


def test_dask(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with local_cluster(1) as address:
        assert spun(units(unit2="fail"), ExecutorOptions(dask=address), tmp_path) == [FAILING]
    assert done(tmp_path) == {*NAMES} - {"unit2"}


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_killed_workers_of_dask_take_no_finished_unit_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("vvc_nnr.units.TASK_S", 0.0)  # each unit in a task of its own, the longest first
    with local_cluster(1) as address, caplog.at_level(logging.WARNING, "vvc_nnr.units"):
        assert spun(units(unit2="die once"), ExecutorOptions(dask=address), tmp_path) == []
    assert done(tmp_path) == {*NAMES}
    before = {name for name in NAMES if made_ns(tmp_path / name) < made_ns(tmp_path / "unit2.died")}
    assert before >= {"unit5", "unit4"}
    assert told_repeats(caplog) & before == set()
    assert "unit2" in told_repeats(caplog)


def made_ns(path: Path) -> int:
    return path.stat().st_mtime_ns


def test_short_units_share_tasks_of_dask() -> None:
    tasks = _tasks([Spin("a", 2.0), *units(), Spin("b", 0.9), Spin("c", 0.1)])
    assert [len(task) for task in tasks] == [1, 6, 2]
    assert [len(task) for task in _tasks([Spin("free", 0.0), *units()])] == [7]
    assert _tasks([]) == []


def test_short_units_share_jobs_of_slurm_by_their_cost() -> None:
    short = [Spin(f"s{number}", 0.3) for number in range(200)]
    jobs = _jobs([Spin("long", 90.0), Spin("half", 16.0), *short], 1000)
    assert len(jobs) == 4  # 76 s of short units beside the long one
    assert [unit.name for unit in jobs[0]] == ["long"]
    costs_s = [sum(unit.cost_s for unit in job) for job in jobs[1:]]
    assert max(costs_s) - min(costs_s) <= 0.3 + 1e-9
    assert sum(map(len, jobs)) == 202
    assert [len(job) for job in _jobs([Spin(f"l{number}", 60.0) for number in range(6)], 4)] == [2, 2, 1, 1]
    assert [len(job) for job in _jobs([Spin("free", 0.0), Spin("free too", 0.0)], 9)] == [2]


@pytest.mark.skipif(sys.platform == "win32", reason="programs without a suffix")
def test_a_cluster_without_accounting_is_told_once_and_asked_by_its_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two jobs of an array: the first one leaves the queue, the second one is in it."""
    programs = {
        "sacct": 'echo "Slurm accounting storage is disabled" >&2; exit 1',
        "squeue": "echo 28_1",
    }
    for name, lines in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("vvc_nnr.executors._QUEUE_POLL_S", 0.0)
    assert not _has_accounting()
    assert caplog.text.count("keeps no accounting") == 1
    assert capfd.readouterr().err.count("storage is disabled") == 0
    named = {name: _Hashed(name) for name in ("28_0", "28_1")}
    queue = _Queue()
    assert queue.left_by(named.values()) == set()
    assert queue.left_by(named.values()) == {named["28_0"]}
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact' >&2; exit 1\n")
    assert queue.left_by(named.values()) == set()
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1\n")
    queue.left_by(named.values())
    assert queue.left_by(named.values()) == set(named.values())


@dataclass(frozen=True)
class _Hashed:
    """A job by its number."""

    job_id: str


@pytest.mark.skipif(sys.platform == "win32", reason="programs without a suffix")
def test_what_sbatch_refuses_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    (programs := tmp_path / "bin").mkdir()
    said = "sbatch: error: Batch job submission failed: Invalid account"
    copies = f'for last; do :; done; /bin/cp "$last" {tmp_path}/script; echo "{said}" >&2; exit 1'
    monkeypatch.setenv("PATH", str(programs))  # without a srun that may be installed here
    for name, lines, words in (
        ("sbatch", copies, "srun is not on the PATH"),
        ("srun", "exit 0", f"the jobs cannot be submitted: {said}"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{lines}\n")
        (programs / name).chmod(0o755)
        with pytest.raises(InputError) as raised:
            spun(units(), ExecutorOptions(slurm="partition=short,array=3"), tmp_path)
        assert str(raised.value).startswith(f"slurm: {words}")
    script = (tmp_path / "script").read_text()
    assert "--time=1440" in script
    assert "--partition=short" in script


class LateJob:
    """A job of submitit whose time was over."""

    job_id = "7"
    paths = SimpleNamespace(folder="logs/slurm")

    def result(self) -> None:
        raise RuntimeError("Job 7 (task: 0) with path 7_result.pkl has not produced any output")

    def stderr(self) -> str:
        return (
            "submitit WARNING - Bypassing signal SIGTERM\nJob has timed out. Ran 1 minutes out of requested 5 minutes."
        )


def test_a_job_whose_time_was_over_is_told() -> None:
    assert _result_of(LateJob()) == Lost("job 7: its time limit was over; give more (time=MINUTES) (logs: logs/slurm)")


def test_options_of_sbatch_have_no_use_here(caplog: pytest.LogCaptureFixture) -> None:
    assert _parameters(SlurmSettings.parse("cluster=local,tme=3")) == {"timeout_min": 1440, "cpus_per_task": 1}
    assert "has no use for tme" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_jobs_of_slurm_run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    (failure,) = spun(units()[:1], ExecutorOptions(slurm="cluster=local"), tmp_path)
    assert "ModuleNotFoundError: No module named 'executors'" in failure.error
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
    monkeypatch.setattr("vvc_nnr.units.JOB_S", 0.0)  # as if each unit were worth a job
    failures = spun(units(unit2="fail", unit4="die"), ExecutorOptions(slurm="cluster=local,array=2"), tmp_path)
    lost = [each for each in failures if each != FAILING]
    assert FAILING in failures
    assert [each.unit for each in lost] == ["unit0", "unit3", "unit4"]  # the job of unit4, which was first in it
    assert all("job " in each.error and "logs: " in each.error for each in lost)
    assert done(tmp_path) == {"unit1", "unit5"}
    assert list((tmp_path / "logs" / "slurm").glob("*_log.err"))
