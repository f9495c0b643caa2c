"""Several processes: parts of a batch, failing together, and the same training as one process."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from processes import launch
from rnnfast.checkpoint import load
from rnnfast.parallel import Alone, FailedElsewhereError, join, share, together
from rnnfast.run import Run
from rnnfast.systems import Text, TextSettings
from texts import write_text

pytest.importorskip("safetensors", reason="checkpoints are safetensors files")

SMALL = ["--hidden=12", "--seq-length=16", "--batch=6", "--threads=1", "--no-plot"]
LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS")


class Member(Alone):
    """One of several processes that is asked for nothing."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 2), (7, 3), (8, 3), (64, 5), (5, 5)])
def test_the_shares_are_the_batch_and_nearly_equal(rows, size):
    parts = [list(range(rows))[share(rows, Member(rank, size))] for rank in range(size)]
    assert sum(parts, []) == list(range(rows))  # noqa: RUF017
    lengths = {len(part) for part in parts}
    assert min(lengths) >= 1 and max(lengths) - min(lengths) <= 1


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match="batches of 2 cannot be divided among 3 processes"):
        share(2, Member(0, 3))


def test_a_process_alone_agrees_with_itself(rng):
    group, values = Alone(), rng.random(5)
    kept = values.copy()
    group.sum(values)
    group.abandon()
    np.testing.assert_array_equal(values, kept)
    assert group.join(values, 0) is values
    assert group.agree(values) is values
    assert group.any(True) and not group.any(False)
    assert together(group, lambda: 3) == 3
    with pytest.raises(ValueError, match="bad"):
        together(group, lambda: int("bad"))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_several_processes_need_mpi4py(monkeypatch, name):
    for other in LAUNCHERS:
        monkeypatch.delenv(other, raising=False)
    for alone in ("", "1"):
        monkeypatch.setenv(name, alone)
        assert isinstance(join(), Alone)
    monkeypatch.setenv(name, "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ValueError, match=r"need mpi4py: pip install 'rnnfast\[mpi\]'"):
        join()


class Thread(Alone):
    """One of three threads that stand in for processes."""

    size = 3
    _barrier = threading.Barrier(3)

    def __init__(self, rank, slots):
        self.rank, self._slots = rank, slots

    def join(self, part, axis):
        self._slots[self.rank] = part
        self._barrier.wait(30)
        whole = np.concatenate(self._slots, axis)
        self._barrier.wait(30)
        return whole


@pytest.mark.parametrize("failing", [(), (0,), (2,), (1, 2), (0, 1, 2)])
def test_what_fails_in_one_process_fails_in_all_and_is_told_once(failing):
    slots, ends = [None] * 3, [None] * 3

    def make(rank):
        if rank in failing:
            raise ValueError(f"bad input seen by {rank}")
        return rank

    def take_part(rank):
        try:
            ends[rank] = together(Thread(rank, slots), lambda: make(rank))
        except (ValueError, FailedElsewhereError) as error:
            ends[rank] = error

    threads = [threading.Thread(target=take_part, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not failing:
        assert ends == [0, 1, 2]
        return
    told = [str(end) for end in ends if isinstance(end, ValueError)]
    assert told == [f"bad input seen by {failing[0]}"]
    assert sum(isinstance(end, FailedElsewhereError) for end in ends) == 2


# -- under mpirun ------------------------------------------------------------------------------


def mpirun():
    """The launcher of this environment, or else of the system."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")


needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or mpirun() is None,
    reason="needs mpi4py and mpirun: pip install 'rnnfast[mpi]' mpich",
)


def train(folder, processes, *flags):
    """Run `rnnfast train text` in `folder` by so many processes, or by one without MPI."""
    command = [sys.executable, "-m", "rnnfast", "train", "text", *map(str, flags)]
    if processes:
        command = [mpirun(), "-n", str(processes), *command]
    allowed = {  # Open MPI: as root, and more processes than cores
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }  # fmt: skip
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **allowed}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def trained(folder, processes, *flags):
    done = train(folder, processes, *flags)
    assert done.returncode == 0, done.stderr
    return done


def logged(path):
    """Losses and gradient norms of the steps, and the figures of the evaluations."""
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    steps = [(e["step"], e["loss"], e["gradient_norm"]) for e in entries if "loss" in e]
    figures = [(e["step"], *e["held_out"].values()) for e in entries if "held_out" in e]
    return np.array(steps), np.array(figures)


@pytest.fixture
def text(tmp_path, rng):
    return write_text(tmp_path / "text.txt", rng, words=900)


@needs_mpi
@pytest.mark.parametrize("flags", [[], ["--accumulate=2", "--cell=lstm"], ["--offset=9"]])
def test_two_processes_train_as_one_with_the_whole_batch(tmp_path, text, flags):
    common = ["--data", text, *SMALL, "--epochs=1", *flags]
    alone = trained(tmp_path, 0, *common, "--out=one.st", "--log=one.jsonl")
    both = trained(tmp_path, 2, *common, "--out=two.st", "--log=two.jsonl")
    expected, found = logged(tmp_path / "one.jsonl"), logged(tmp_path / "two.jsonl")
    assert len(expected[0]) > 20
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=2e-5)
    one, two = load(tmp_path / "one.st"), load(tmp_path / "two.st")
    for group in ("model", "state"):
        assert set(one.groups.get(group, {})) == set(two.groups.get(group, {}))
        for name, array in one.groups.get(group, {}).items():
            np.testing.assert_allclose(two.groups[group][name], array, rtol=2e-3, atol=2e-5)
    assert both.stdout.count("held-out") == alone.stdout.count("held-out") == 1
    assert both.stderr.count("parameters;") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "one.best.st", "one.jsonl", "one.st", "text.txt", "two.best.st", "two.jsonl", "two.st",
    ]  # fmt: skip


@needs_mpi
@pytest.mark.parametrize(("first", "second"), [(2, 0), (0, 3)])
def test_a_training_goes_on_by_another_number_of_processes(tmp_path, text, first, second):
    for name, processes in (("one", (0, 0)), ("two", (first, second))):
        files = [f"--out={name}.st", f"--log={name}.jsonl", "--checkpoint-every=0"]
        trained(tmp_path, processes[0], "--data", text, *SMALL, "--epochs=1", *files)
        again = ["--resume", "--no-plot", "--threads=1", "--epochs=2"]
        trained(tmp_path, processes[1], *again, *files)
    expected, found = logged(tmp_path / "one.jsonl"), logged(tmp_path / "two.jsonl")
    assert len(expected[0]) > 60
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4)


@needs_mpi
@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--data=none.txt"], "none.txt: No such file or directory"),
     (["--data=text.txt", "--batch=1"], "batches of 1 cannot be divided among 2 processes"),
     (["--data=text.txt", "--log=none/log"], "none/log: No such file or directory")],
)  # fmt: skip
def test_bad_input_ends_all_processes_and_is_told_once(tmp_path, text, flags, message):
    done = train(tmp_path, 2, *SMALL, "--epochs=1", *flags)
    assert done.returncode == 2
    assert done.stderr.count(f"rnnfast: {message}") == 1
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["text.txt"]


@needs_mpi
def test_a_process_that_fails_alone_ends_the_others(tmp_path, text):
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('PMI_RANK', os.environ.get('OMPI_COMM_WORLD_RANK')) == '1':\n"
        "    import rnnfast.systems.text as text\n"
        "    def fail(self, index):\n"
        "        raise MemoryError('no room in the second process')\n"
        "    text.Text.step = fail\n"
    )
    flags = ["--data", text, *SMALL, "--epochs=1"]
    former = os.environ.get("PYTHONPATH")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), former])))
        done = train(tmp_path, 2, *flags)
    assert done.returncode != 0
    assert "rnnfast: no room in the second process" in done.stderr
    assert "held-out" not in done.stdout


def test_processes_drop_other_numbers(tmp_path, text):
    """Their weights are equal, what they draw later is not; nor after a resume."""
    settings = TextSettings(data=str(text), hidden=8, seq_length=16, batch=4, epochs=1)
    runs = [Run(Text, settings, Member(rank, 2)) for rank in (0, 1)]
    np.testing.assert_array_equal(*(run.system.model.flat for run in runs))
    assert runs[0]._rng.random() != runs[1]._rng.random()
    runs[0].save(tmp_path / "m.st")
    resumed = [Run.resume(Text, tmp_path / "m.st", {}, Member(rank, 2)) for rank in (0, 1)]
    drawn = [run._rng.random() for run in resumed]
    assert drawn[0] == runs[0]._rng.random() != drawn[1]


@needs_mpi
def test_another_launcher_is_noticed():
    done = launch("from rnnfast.parallel import join; join()", SLURM_STEP_NUM_TASKS="7")
    assert "7 processes were started, but mpi4py sees 1" in done.stderr
