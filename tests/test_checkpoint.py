"""Checkpoint files: what is kept, what is refused, and what a fault leaves behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from rnnfast import checkpoint
from rnnfast.checkpoint import Checkpoint, check_writable, load, save

safetensors_numpy = pytest.importorskip(
    "safetensors.numpy", reason="checkpoints are safetensors files"
)


def example(rng, size=1000):
    groups = {
        "model": {"a.weight": rng.standard_normal((3, size)).astype("float32")},
        "optimizer": {"steps": np.array(rng.integers(99)), "m": rng.standard_normal(size)},
    }
    return Checkpoint("text", groups, {"options": {"lr": 0.25, "data": None}, "text": "äöü\n\0"})


def assert_same(one, other):
    assert one.kind == other.kind
    assert one.description == other.description
    assert {g: set(m) for g, m in one.groups.items()} == {
        g: set(m) for g, m in other.groups.items()
    }
    for group, members in one.groups.items():
        for name, array in members.items():
            assert other.groups[group][name].dtype == array.dtype
            np.testing.assert_array_equal(other.groups[group][name], array)


def test_round_trip(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    for _ in range(2):
        written = example(rng)
        save(path, written)
        assert_same(load(path, "text"), written)
        assert_same(load(str(path)), written)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_views_are_written_as_their_values(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    array = rng.standard_normal((4, 6))[:, ::2].T
    save(path, Checkpoint("text", {"model": {"view": array}}, {}))
    np.testing.assert_array_equal(load(path).groups["model"]["view"], array)


def test_other_programs_can_read_the_weights(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    written = example(rng)
    save(path, written)
    arrays = safetensors_numpy.load_file(path)
    np.testing.assert_array_equal(arrays["model.a.weight"], written.groups["model"]["a.weight"])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_files_are_refused(rng, tmp_path, share):
    path = tmp_path / "model.safetensors"
    save(path, example(rng))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"model\.safetensors: truncated, or not a checkpoint"):
        load(path)


def test_foreign_files_are_refused(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    for content in (b"hello, world, this is no checkpoint", rng.bytes(500), b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="truncated, or not a checkpoint"):
            load(path)
    arrays = {"weight": rng.standard_normal(3)}
    for metadata in (None, {"rnnfast": "{"}, {"rnnfast": "[]"}, {"rnnfast": '{"format": 1}'}):
        safetensors_numpy.save_file(arrays, path, metadata)
        with pytest.raises(ValueError, match="but not a checkpoint of rnnfast"):
            load(path)
    for version in (1, checkpoint.FORMAT + 1):
        header = json.dumps({"format": version, "kind": "text"})
        safetensors_numpy.save_file(arrays, path, {"rnnfast": header})
        with pytest.raises(ValueError, match=rf"checkpoint format {version}, this version reads 2"):
            load(path)


def test_other_kinds_are_refused(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, Checkpoint("series", {"model": {"w": rng.standard_normal(2)}}, {}))
    with pytest.raises(ValueError, match="of kind 'series', expected 'text'"):
        load(path, "text")


def test_missing_files_and_folders(rng, tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.safetensors")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        save(tmp_path / "none" / "model.safetensors", example(rng))
    assert caught.value.filename == str(tmp_path / "none" / "model.safetensors")


def test_check_writable(tmp_path):
    check_writable(tmp_path / "new.safetensors")
    assert os.listdir(tmp_path) == []
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        check_writable(tmp_path / "none" / "new.safetensors")
    assert caught.value.filename == str(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_are_neither_read_nor_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for use in (load, check_writable):
        with pytest.raises(OSError, match="Not a regular file") as caught:
            use(pipe)
        assert caught.value.filename == str(pipe)
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(rng, tmp_path, monkeypatch, name):
    path = tmp_path / "model.safetensors"
    old = example(rng)
    save(path, old)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with pytest.raises(OSError, match="No space left") as caught:
            save(path, example(rng))
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert_same(load(path), old)


def in_process(path, before, size):
    """Save a checkpoint of other numbers over `path` in a process of its own."""
    script = f"""
    import os, resource, signal
    import numpy as np
    from rnnfast.checkpoint import Checkpoint, save
    array = np.random.default_rng(1).standard_normal({size})
    {before}
    save({str(path)!r}, Checkpoint("text", {{"model": {{"w": array}}}}, {{}}))
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )


def test_a_full_disk_leaves_the_old_file(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    old = example(rng, size=10)
    save(path, old)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    result = in_process(path, limit, 100_000)
    assert "OSError: [Errno 27] File too large" in result.stderr
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert_same(load(path), old)
    assert in_process(path, limit, 1_000).returncode == 0
    assert load(path).groups["model"]["w"].shape == (1_000,)


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_kill_in_mid_write_leaves_the_old_file(rng, tmp_path, name):
    path = tmp_path / "model.safetensors"
    old = example(rng)
    save(path, old)
    kill = f"os.{name} = lambda *a: os.kill(os.getpid(), signal.SIGKILL)"
    assert in_process(path, kill, 1_000).returncode == -signal.SIGKILL
    assert_same(load(path), old)
    save(path, example(rng))  # what the dead process left is in nobody's way
