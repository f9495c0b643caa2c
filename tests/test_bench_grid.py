"""What is measured: the cases of the bench and their operation counts."""

from __future__ import annotations

import numpy as np
import pytest

from bench_cases import case_of
from rnnfast.bench import grid
from rnnfast.bench.grid import Case


def products(cell: str, case: Case) -> list[tuple[int, int, int]]:
    """The matrix products (rows, inner, columns) of one forward pass, one by one."""
    gates = {"basic": ["h"], "lstm": ["i", "f", "g", "o"], "gru": ["r", "z", "n"]}[cell]
    widths = (case.input_size, case.hidden_size)
    return [
        (case.batch, width, case.hidden_size)
        for _ in range(case.seq_length)
        for _ in gates
        for width in widths
    ]


@pytest.mark.parametrize("cell", grid.CELLS)
def test_forward_operations_are_those_of_its_products(cell: str, rng: np.random.Generator) -> None:
    t, b, i, h = (int(size) for size in rng.integers(1, 40, 4))
    case = Case(cell, "forward", t, b, i, h)
    assert case.flops == sum(2 * m * k * n for m, k, n in products(cell, case))


@pytest.mark.parametrize("cell", grid.CELLS)
def test_training_does_every_product_three_times(cell: str) -> None:
    case = case_of(cell, "train")
    forward = products(cell, case)
    inputs = [(m, n, k) for m, k, n in forward]  # d[x, h] = dgates · W
    weights = [(k, m, n) for m, k, n in forward]  # dW = [x, h]ᵀ · dgates
    assert case.flops == sum(2 * m * k * n for m, k, n in [*forward, *inputs, *weights])


def test_the_grid_has_every_point_once() -> None:
    cases = grid.cases()
    names = {case.name for case in cases}
    assert len(names) == len(cases) == 3 * 2 * (5 * 3 + 1)
    assert {case.seq_length for case in cases} == {256}
    for cell in ("basic", "lstm", "gru"):
        for work in ("forward", "train"):
            shapes = {
                (c.batch, c.input_size, c.hidden_size)
                for c in cases
                if (c.cell, c.work) == (cell, work)
            }
            assert shapes == {
                *((b, 128, h) for b in (1, 16, 32, 64, 128) for h in (128, 512, 1024)),
                (64, 512, 512),
            }


def test_the_quick_grid_is_part_of_the_full_one() -> None:
    assert set(grid.cases(grid.QUICK)) < set(grid.cases())


def test_steps_are_of_one_sequence() -> None:
    cases = grid.step_cases()
    assert {(c.cell, c.hidden_size) for c in cases} == {
        (cell, size) for cell in grid.CELLS for size in (128, 512)
    }
    assert all((c.seq_length, c.batch) == (1, 1) and c.input_size == c.hidden_size for c in cases)


@pytest.mark.parametrize("cell", grid.CELLS)
def test_steps_must_read_the_weights_of_the_state_again(cell: str) -> None:
    weights = {"basic": 1, "lstm": 4, "gru": 3}[cell] * 6 * 6  # of H = 6
    forward, train = case_of(cell, "forward"), case_of(cell, "train")
    assert forward.weight_bytes == train.weight_bytes == 4 * weights
    assert forward.weight_bytes_read == 5 * 4 * weights  # T = 5
    assert train.weight_bytes_read == 2 * forward.weight_bytes_read  # forward and back
    step = case_of(cell, "step")
    assert step.weight_bytes == step.weight_bytes_read == 4 * weights * (6 + 4) // 6  # and of x
    assert case_of(cell, "forward", dtype="float64").weight_bytes == 8 * weights
    assert case_of(cell, "forward", dtype="bfloat16").weight_bytes == 2 * weights
    assert case_of(cell, "forward", dtype="int8").weight_bytes == weights


def test_intensity_grows_with_the_batch() -> None:
    # Two operations for each weight and sequence, over four bytes: I = H doubles them.
    sizes = {"input_size": 8, "hidden_size": 8}
    assert case_of("lstm", "forward", batch=1, **sizes).intensity == pytest.approx(1.0)
    assert case_of("gru", "forward", batch=32, **sizes).intensity == pytest.approx(32.0)
    assert case_of("gru", "train", batch=1, **sizes).intensity == pytest.approx(1.5)
    assert case_of("gru", "step", **{**sizes, "batch": 1}).intensity == pytest.approx(0.5)
