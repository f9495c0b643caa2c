"""``rnnfast bench --device cuda``, on the emulator with a made-up clock and cuDNN, and on a GPU."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench_cases import TWICE, case_of
from test_cuda import machine  # noqa: F401

torch = pytest.importorskip("torch", reason="the bench on a GPU needs PyTorch")

from fake_cudnn import FakeCudnn  # noqa: E402
from rnnfast.bench.gpu import clock, cudnn, measure  # noqa: E402
from rnnfast.bench.gpu import subjects as them  # noqa: E402
from rnnfast.bench.gpu.precision import PRECISIONS  # noqa: E402
from rnnfast.bench.problem import DisagreementError, make  # noqa: E402
from test_torch_gpu import runs, where  # noqa: E402, F401

CELLS = ("basic", "lstm", "gru")
load, seconds, describe = cudnn.load, clock.seconds, clock.describe


@pytest.fixture(autouse=True)
def library(machine: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Stand in for what the emulator lacks; give the cuDNN that stands in."""
    monkeypatch.setattr(measure, "ROTATED_BYTES", 1 << 10)
    monkeypatch.setattr(measure, "TURN_SECONDS", 1e-4)
    monkeypatch.setattr(measure, "WARM_CALLS", 1)
    monkeypatch.setattr("rnnfast.bench.measure.settle", lambda: None)
    if machine != "emulated":
        return None
    fake = FakeCudnn()
    made = cudnn.Library(fake, 0)
    monkeypatch.setattr(cudnn, "load", lambda: made)
    monkeypatch.setattr(clock, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(clock, "seconds", by_the_cpu)
    gpu = {"gpu": "made up", "capability": "9.0", "cuda": "13.0", "cudnn": "9", "persistent": False}
    monkeypatch.setattr(clock, "describe", lambda _: gpu)
    return fake


def by_the_cpu(run: Callable[[int], object], calls: int) -> float:
    start = time.perf_counter()
    run(calls)
    return (time.perf_counter() - start) / calls


@pytest.mark.parametrize("work", ["forward", "train"])
@pytest.mark.parametrize("cell", CELLS)
def test_everyone_computes_what_float64_does(cell: str, work: str, where: Any) -> None:  # noqa: F811
    case = case_of(cell, work)
    everyone = them.subjects(peers=True)
    measured = measure.measure_case(case, TWICE, everyone, where)
    if where.type == "cuda":  # not all algorithms are for so small a layer
        assert {one.library for one in measured.refused} <= {them.CUDNN}
    else:
        assert not measured.refused
    assert list(measured.seconds) == list(measured.errors)
    assert list(measured.seconds) == [one for one in everyone if one not in measured.refused]
    allowed = {"float32": 1e-5, "tf32": 5e-3, "bfloat16": 0.03, "float16": 0.005}
    for one, error in measured.errors.items():
        assert error < allowed[one.precision.name], one.name
    assert all(len(spread.samples) == 2 for spread in measured.seconds.values())


@pytest.mark.parametrize("work", ["forward", "train"])
@pytest.mark.parametrize("subject", them.subjects(peers=False), ids=lambda one: one.precision.name)
def test_every_call_has_the_precision(
    subject: Any,
    work: str,
    where: Any,  # noqa: F811
    runs: list[Any],  # noqa: F811
) -> None:
    measure.measure_case(case_of("gru", work), TWICE, [subject], where)
    assert {spec.compute for spec in runs} == {subject.precision.name}
    assert len(runs) >= 7  # the check, the warm calls, how many make a turn, two turns


def test_calls_repeat_themselves_and_inference_keeps_nothing(where: Any) -> None:  # noqa: F811
    for work in ("forward", "train"):
        case = case_of("lstm", work)
        problem = make(case)
        weights, inputs = them.weights_of(problem, where), measure.Inputs(problem, where)
        for subject in them.subjects(peers=where.type == "cpu"):
            with subject.precision.allowed():
                job = subject.prepare(case, weights)
                pair = inputs.first(subject.precision.dtype)
                first = {name: v.clone() for name, v in job.read(job.call(*pair)).items()}
                again = job.call(*pair)
                assert measure.distance(job.read(again), first) == 0.0
            if work == "forward" and subject.library != them.CUDNN:
                assert again.is_inference()


def layer_of(library: Any, case: Any, algorithm: str, precision: str) -> Any:
    weights = them.weights_of(make(case), torch.device("cpu"))
    return cudnn.Layer(library, case, algorithm, PRECISIONS[precision], weights)


def test_cudnn_is_told_of_the_layer(library: Any) -> None:
    if library is None:
        pytest.skip("the functions are real")
    layer = layer_of(cudnn.load(), case_of("gru", "train"), "PERSIST_DYNAMIC", "bfloat16")
    layer.forward(torch.zeros(5, 3, 4, dtype=torch.bfloat16))
    (described,) = library.forwards
    told = described.settings
    assert told.pop("dropoutDesc") in library.alive
    assert list(told.values()) == [2, 3, 2, 0, 0, 9, 0, 1, 4, 6, 6, 1, 0]
    assert described.built == 3
    maths = {"float32": 3, "tf32": 0, "float16": 1}
    for precision, number in maths.items():
        layer = layer_of(cudnn.load(), case_of("lstm", "forward"), "STANDARD", precision)
        layer.forward(torch.zeros(5, 3, 4, dtype=PRECISIONS[precision].dtype))
        assert library.forwards[-1].settings["mathType"] == number


def test_cudnn_s_descriptors_are_destroyed(library: Any) -> None:
    if library is None:
        pytest.skip("the functions are real")
    before = list(library.alive)
    layer = layer_of(cudnn.load(), case_of("lstm", "train"), "STANDARD", "float32")
    assert len(library.alive) > len(before)
    del layer
    assert library.alive == before


def test_a_peer_may_refuse_and_rnnfast_may_not_be_wrong(
    where: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case, everyone = case_of("lstm", "forward"), them.subjects(peers=True)
    refusing = cudnn.Library(FakeCudnn(refused=(1, 3)), 0)
    monkeypatch.setattr(cudnn, "load", lambda: refusing)
    direct = cudnn.Layer.forward
    if where.type == "cpu":
        measured = measure.measure_case(case, TWICE, everyone, where)
        assert {one.algorithm for one in measured.refused} == {cudnn.ALGORITHMS[n] for n in (1, 3)}
        why = "cudnnSetRNNDescriptor_v8: CUDNN_STATUS_NOT_SUPPORTED"
        assert list(measured.refused.values()) == [why] * 8
        assert not measured.refused.keys() & measured.seconds.keys()
        monkeypatch.setattr(cudnn.Layer, "forward", lambda self, x: direct(self, x).mul_(1.3))
        wrong = measure.measure_case(case, TWICE, everyone, where).refused
        assert sum("results differ from float64's by 3.0e-01" in why for why in wrong.values()) == 8
        monkeypatch.setattr(cudnn, "load", load)
        monkeypatch.setattr(cudnn, "LIBRARY", "libnone.so")
        absent = measure.measure_case(case, TWICE, everyone, where).refused
        assert len(absent) == 16 and all("libnone.so" in why for why in absent.values())
    with monkeypatch.context() as chosen:
        chosen.setattr(them.rnnfast.torch.gpu._choice, "rnnfast", False)
        with pytest.raises(DisagreementError, match=r"rnnfast .*: PyTorch would compute it"):
            measure.measure_case(case, TWICE, everyone, where)
    right = them.Subject.prepare

    def spoilt(self: Any, *given: Any) -> Any:
        job = right(self, *given)
        return them.Job(job.call, lambda result: {n: t * 2 for n, t in job.read(result).items()})

    monkeypatch.setattr(them.Subject, "prepare", spoilt)
    with pytest.raises(DisagreementError, match=r"lstm forward T5 .*: rnnfast float32: results"):
        measure.measure_case(case, TWICE, everyone, where)


def test_inputs_rotate_and_begin_with_the_problem_s(where: Any) -> None:  # noqa: F811
    problem = make(case_of("gru", "train"))
    pairs = measure.Inputs(problem, where).of(torch.bfloat16)
    assert len(pairs) == -(-measure.ROTATED_BYTES // ((problem.x.size + problem.dy.size) * 2)) > 2
    assert torch.equal(pairs[0][0].cpu(), torch.from_numpy(problem.x).bfloat16())
    assert len({x.data_ptr() for x, _ in pairs}) == len(pairs)
    assert len({dy.data_ptr() for _, dy in pairs}) == len(pairs)
    assert all(x.requires_grad and x.dtype is dy.dtype is torch.bfloat16 for x, dy in pairs)
    seen: list[int] = []
    job = them.Job(lambda x, dy: seen.append(x.data_ptr()), lambda result: result)
    measure.turn(PRECISIONS["bfloat16"], job, pairs)()
    assert seen[: len(pairs)] == [x.data_ptr() for x, _ in pairs]
    assert len(seen) > len(pairs)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Runs the command and gives its exit code and document."""
    for needed in ("typer", "rich", "safetensors"):
        pytest.importorskip(needed)
    from rnnfast.cli import main

    def run(*options: str) -> SimpleNamespace:
        small = ["--seq-length", "5", "--batch", "1,2", "--input-size", "3", "--hidden-size", "4"]
        small += ["--rounds", "2"]
        with pytest.raises(SystemExit) as exit_info:
            main(["bench", "--device", "cuda", *small, "--out", str(tmp_path), *options])
        written = tmp_path / "bench-cuda.json"
        document = json.loads(written.read_text()) if written.exists() else None
        return SimpleNamespace(code=exit_info.value.code, document=document)

    return run


def test_from_end_to_end(
    bench: Callable[..., SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = bench("--cells", "lstm")
    assert outcome.code == 0
    assert outcome.document["complete"]
    cases = outcome.document["cases"]
    assert [(c["cell"], c["work"], c["batch"]) for c in cases] == [
        ("lstm", work, batch) for work in ("forward", "train") for batch in (1, 2)
    ]
    assert len(cases[0]["subjects"]["rnnfast tf32"]["seconds"]["samples"]) == 2
    assert {"torch", "rnnfast"} <= outcome.document["machine"]["versions"].keys()
    assert outcome.document["device"] == "cuda" and "threads" not in outcome.document["machine"]
    output = capsys.readouterr().out
    for text in ("Forward, median ms", "Forward and BPTT", "B2 I3 H4", "bench-cuda.json"):
        assert text in output
    assert not them.rnnfast.torch.gpu._choice.rnnfast


def test_alone_and_interrupted(
    bench: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = bench("--cells", "basic", "--no-peers")
    subjects = {name for case in outcome.document["cases"] for name in case["subjects"]}
    assert subjects == {"rnnfast float32", "rnnfast tf32", "rnnfast bfloat16"}
    from rnnfast.bench.gpu import command

    measure_case, save, left = command.measure_case, command._save, [1, 1]

    def interrupted(*given: Any) -> Any:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return measure_case(*given)

    monkeypatch.setattr(command, "measure_case", interrupted)
    outcome = bench("--no-peers")
    assert (outcome.code, len(outcome.document["cases"])) == (130, 2)
    assert not outcome.document["complete"]

    def late(folder: Path, result: dict[str, Any]) -> None:
        if len(result["cases"]) == 4:
            raise KeyboardInterrupt
        save(folder, result)

    monkeypatch.setattr(command, "measure_case", measure_case)
    monkeypatch.setattr(command, "_save", late)
    outcome = bench("--cells", "basic", "--no-peers")
    assert (outcome.code, len(outcome.document["cases"])) == (130, 3)
    assert not outcome.document["complete"]


@pytest.mark.parametrize(
    "options", [["--torch"], ["--isa", "avx2"], ["--threads", "2"], ["--dtype", "float64"]]
)
def test_what_is_for_the_cpu_is_refused(
    bench: Callable[..., SimpleNamespace], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if options == ["--isa", "avx2"]:
        import rnnfast

        options = ["--isa", rnnfast.info()["isa"]]
    outcome = bench(*options)
    assert (outcome.code, outcome.document) == (2, None)
    assert "--device cuda takes no --torch" in capsys.readouterr().err


class Event:
    """One of a clock that ticks once at every call."""

    ticks = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Event.ticks

    def elapsed_time(self, end: Event) -> float:
        return end.at - self.at


def test_times_are_between_events(monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[int] = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: awaited.append(Event.ticks))
    before = Event.ticks

    def run(calls: int) -> None:
        Event.ticks += 2 * calls

    assert seconds(run, 5) == 2e-3
    assert awaited == [before, before + 10]


@pytest.mark.parametrize("code", [0, 9])
def test_the_driver_is_asked_for_the_gpu_that_pytorch_uses(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\necho "580.1, $1, 2619 MHz, 700.00 W"\nexit {code}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    properties = SimpleNamespace(uuid="12-34")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    found = describe(torch.device("cuda", 0))
    assert (found["gpu"], found["capability"]) == ("H200", "9.0")
    assert found.get("driver_version") == (None if code else "580.1")
    assert found.get("clocks.max.sm") == (None if code else "--id=GPU-12-34")


def test_without_a_gpu(
    bench: Callable[..., SimpleNamespace],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench().code == 2
    error = capsys.readouterr().err
    assert "--device cuda needs a GPU and PyTorch with CUDA" in error
    assert error.count("\n") == 1
