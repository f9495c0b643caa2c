"""The roofline: the caches, the bandwidth that is measured, the roofs and the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench_cases import BANDWIDTH, case_of, made_up
from rnnfast import _core
from rnnfast.bench import caches, plot, roofline
from rnnfast.bench.measure import Spread
from rnnfast.bench.subjects import SUBJECTS

SIZES = {1: 32 * 1024, 2: 1024 * 1024, 3: 32 * 1024 * 1024}


def test_the_caches_are_those_that_hold_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {
        "index0": ("1", "Data", "48K"),
        "index1": ("1", "Instruction", "32K"),
        "index3": ("3", "Unified", "32M"),
        "index2": ("2", "Unified", "1024K"),
        "index4": ("4", "Unified", "many"),
    }
    for folder, texts in described.items():
        (tmp_path / folder).mkdir()
        for name, text in zip(("level", "type", "size"), texts, strict=True):
            (tmp_path / folder / name).write_text(f"{text}\n")
    monkeypatch.setattr(caches, "FOLDER", tmp_path)
    assert list(caches.sizes().items()) == [(1, 48 * 2**10), (2, 2**20), (3, 32 * 2**20)]
    monkeypatch.setattr(caches, "FOLDER", tmp_path / "missing")
    assert caches.sizes() == {}


@pytest.mark.parametrize(
    ("size", "threads", "expected"),
    [
        (16 * 1024, 1, "L1"),
        (32 * 1024, 1, "L2"),  # nothing else would find room
        (48 * 1024, 2, "L1"),  # a part each
        (3 * 2**19, 1, "L3"),
        (3 * 2**19, 2, "L2"),
        (48 * 2**20, 1, "memory"),
        (48 * 2**20, 2, "memory"),  # the last level is shared
    ],
)
def test_parts_of_threads_lie_in_their_caches(size: int, threads: int, expected: str) -> None:
    assert caches.holder(size, threads, SIZES) == expected


def test_where_no_cache_is_known_all_is_memory() -> None:
    assert caches.holder(1, 1, {}) == "memory"


def test_a_roof_is_the_median_over_the_cases_in_its_cache() -> None:
    small = made_up(case_of("lstm", "forward", hidden_size=128), 1.0)  # 256 KiB
    large = made_up(case_of("lstm", "forward", hidden_size=1024), 1.0)  # 16 MiB
    rates = [4e9, 1e9, 2e9]
    measurements = [
        replace(large, bandwidth=Spread.of([7e9])),
        *(replace(small, bandwidth=Spread.of([rate])) for rate in rates),
    ]
    bandwidths, held = roofline.roofs(measurements, 1, SIZES)
    assert list(bandwidths.items()) == [("L2", 2e9), ("L3", 7e9)]
    assert held == ["L3", "L2", "L2", "L2"]


def test_every_pass_is_drawn_with_one_sequence_marked() -> None:
    pytest.importorskip("matplotlib")
    cases = [
        case_of("lstm", "forward", batch=1),
        case_of("lstm", "forward", batch=32),
        case_of("gru", "train", hidden_size=600),
    ]
    measurements = [made_up(case, 1e-3) for case in cases]
    figure = roofline.draw(measurements, "Title", 1, SIZES)
    forward, train = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["forward", "train"]
    assert [text.get_text() for text in forward.texts] == ["H6"]  # the one sequence
    assert not train.texts
    lines = {axes: [line.get_xydata().tolist() for line in axes.lines] for axes in figure.axes}
    for case in cases:
        panel = lines[forward if case.work == "forward" else train]
        assert [[case.intensity, case.flops / 1e-3 / 1e9]] in panel
    for panel in lines.values():  # both roofs rise to the peak of 400 GFLOP/s
        ridges = [line[-1] for line in panel if len(line) == 2 and line[0][1] < line[1][1]]
        assert ridges == [pytest.approx([400e9 / BANDWIDTH, 400.0])] * 2


def test_every_subject_has_a_colour_of_its_own() -> None:
    assert len({plot._colour(subject.name) for subject in SUBJECTS}) == len(SUBJECTS)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("nbytes", [4, 1000, 100_001, 1 << 20])
def test_the_bandwidth_of_any_size_is_measured(nbytes: int, threads: int, isa: str) -> None:
    assert 0 < _core.measure_read_bandwidth(nbytes, threads, 1e-6) < 1e14


def test_the_bandwidth_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match="nbytes is 3, expected at least 4"):
        _core.measure_read_bandwidth(3, 1, 0.0)
    with pytest.raises(ValueError, match="num_threads"):
        _core.measure_read_bandwidth(4, 0, 0.0)
    with pytest.raises(MemoryError):
        _core.measure_read_bandwidth(2**62, 1, 0.0)
