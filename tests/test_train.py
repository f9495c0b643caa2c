"""The loop on a small task of its own: plan, steps, sums of batches, divergence, interruption."""

import math
import os
import signal
import threading
import time

import numpy as np
import pytest

from rnnfast import train
from rnnfast.models import Model
from rnnfast.nn import Dense, mse_loss
from rnnfast.optim import SGD, Adam
from rnnfast.train import WARMUP, DivergenceError, Interruption, Loss, Trainer, TrainingPlan


class Fit:
    """Least squares of a random affine map; one of ten batches at a step."""

    steps_per_epoch = 10

    def __init__(self, rng):
        self.dense = Dense(6, 4, dtype="float64", rng=rng)
        self.model = Model({"dense": self.dense})
        self.x = rng.standard_normal((10, 30, 6))
        self.y = self.x @ rng.standard_normal((6, 4))

    def step(self, index):
        batch = index % 10
        prediction, tape = self.dense.forward(self.x[batch])
        loss, gradient = mse_loss(prediction, self.y[batch])
        self.dense.backward(tape, gradient, out=self.model.gradient_of("dense"))
        return Loss(loss, len(prediction))


def trainer(rng, total=None, lr=0.05, clip=math.inf, task=None):
    task = Fit(rng) if task is None else task
    plan = TrainingPlan(lr) if total is None else TrainingPlan(lr).of_length(total)
    return Trainer(task, Adam(task.model.flat, lr), plan, clip)


def test_plan_rises_and_falls():
    plan = TrainingPlan(0.3).of_length(400)
    rates = np.array([plan.rate(step) for step in range(400)])
    assert rates[0] == pytest.approx(0.3 / WARMUP)
    assert (np.diff(rates[:WARMUP]) > 0).all()
    assert rates[WARMUP] == pytest.approx(0.3)
    assert (np.diff(rates[WARMUP:]) < 0).all()
    assert rates[225] == pytest.approx(0.3 * (1 + plan.floor) / 2)
    assert rates[-1] == pytest.approx(0.3 * plan.floor, rel=0.01)
    assert plan.rate(1000) == pytest.approx(0.3 * plan.floor)


def test_plan_without_a_length_stays_up():
    plan = TrainingPlan(0.3)
    assert [plan.rate(s) for s in range(WARMUP)] == [
        TrainingPlan(0.3).of_length(1000).rate(s) for s in range(WARMUP)
    ]
    assert plan.rate(WARMUP) == plan.rate(10**6) == 0.3


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("cosine", [1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0.0]),
     ("linear", [1.0, 0.75, 0.5, 0.25, 0.0]),
     ("constant", [1.0] * 5)],
)  # fmt: skip
def test_schedules_fall_from_the_peak_to_the_floor(schedule, expected):
    plan = TrainingPlan(0.3, schedule=schedule).of_length(WARMUP + 400)
    rates = [plan.rate(WARMUP + step) for step in (0, 100, 200, 300, 400)]
    heights = [0.3 * (plan.floor + (1 - plan.floor) * share) for share in expected]
    assert rates == pytest.approx(heights, rel=1e-12)
    assert plan.rate(10**6) == rates[-1]
    warmup = [plan.rate(step) for step in range(WARMUP)]
    assert warmup == [0.3 * (step + 1) / WARMUP for step in range(WARMUP)]


@pytest.mark.parametrize("total", [1, 2, 9])
def test_short_plans_are_sound(total):
    rates = [TrainingPlan(0.3).of_length(total).rate(step) for step in range(total)]
    assert max(rates) == pytest.approx(0.3)
    assert min(rates) > 0.0


def test_training_converges(rng):
    run = trainer(rng, total=400)
    losses = []
    assert run.run(on_step=losses.append)
    assert run.finished
    assert run.steps == len(losses) == 400
    assert losses[0] > 1.0
    assert losses[-1] < 1e-4


def test_a_step_is_the_clipped_gradient_at_the_planned_rate(rng):
    task = Fit(rng)
    plan = TrainingPlan(0.2).of_length(50)
    run = Trainer(task, SGD(task.model.flat, 1.0), plan, clip=0.1)
    for step in range(12):
        before = task.model.flat.copy()
        loss = task.step(step).mean
        gradient = task.model.gradient.copy()
        assert run.advance() == loss
        clipped = gradient * min(1.0, 0.1 / np.linalg.norm(gradient))
        np.testing.assert_allclose(
            task.model.flat, before - plan.rate(step) * clipped, rtol=0, atol=1e-7
        )


class Parts(Fit):
    """The batches of another task, each cut at the same row: the first part, then the second."""

    def __init__(self, whole, cut):
        self.dense, self.model = whole.dense, whole.model
        self.x, self.y = whole.x, whole.y
        self.cut = cut

    def step(self, index):
        batch, second = divmod(index, 2)
        rows = slice(self.cut, None) if second else slice(self.cut)
        prediction, tape = self.dense.forward(self.x[batch % 10, rows])
        loss, gradient = mse_loss(prediction, self.y[batch % 10, rows])
        self.dense.backward(tape, gradient, out=self.model.gradient_of("dense"))
        return Loss(loss, len(prediction))


def test_accumulated_batches_are_one_larger_batch(rng):
    seed = rng.integers(2**32)
    whole, cut = (Fit(np.random.default_rng(seed)) for _ in range(2))
    runs = trainer(rng, total=30, clip=0.5, task=whole), trainer(rng, task=Parts(cut, 11))
    runs[1].plan, runs[1].clip, runs[1].accumulate = runs[0].plan, 0.5, 2
    for step in range(30):
        losses = [run.advance() for run in runs]
        assert losses[1] == pytest.approx(losses[0], rel=1e-10), step
        assert runs[1].norm == pytest.approx(runs[0].norm, rel=1e-10)
    assert [run.steps for run in runs] == [30, 30]
    np.testing.assert_allclose(cut.model.flat, whole.model.flat, rtol=1e-9)


class Team:
    """One of two threads that stand in for processes."""

    size = 2

    def __init__(self, rank, slots, barrier):
        self.rank, self._slots, self._barrier = rank, slots, barrier

    def sum(self, values):
        self._slots[self.rank] = values.copy()
        self._barrier.wait(30)
        values[:] = self._slots[0] + self._slots[1]
        self._barrier.wait(30)


class Share(Fit):
    """Some rows of the batches."""

    def __init__(self, rng, rows):
        super().__init__(rng)
        self.x, self.y = self.x[:, rows], self.y[:, rows]


def test_a_group_steps_as_one_process_with_all_rows(rng):
    seed = rng.integers(2**32)
    whole = trainer(rng, total=20, clip=0.5, task=Fit(np.random.default_rng(seed)))
    slots, barrier = [None, None], threading.Barrier(2)
    members = []
    for rank, rows in enumerate((slice(11), slice(11, None))):
        task = Share(np.random.default_rng(seed), rows)
        adam = Adam(task.model.flat, 0.05)
        members.append(Trainer(task, adam, whole.plan, 0.5, group=Team(rank, slots, barrier)))
    for _ in range(20):
        losses = [0.0, 0.0]

        def advance(rank, losses=losses):
            losses[rank] = members[rank].advance()

        threads = [threading.Thread(target=advance, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert losses[0] == losses[1] == pytest.approx(whole.advance(), rel=1e-10)
    for member in members:
        np.testing.assert_allclose(member.task.model.flat, whole.task.model.flat, rtol=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_stops_before_the_parameters_are_touched(rng, value):
    run = trainer(rng, total=20)
    for _ in range(3):
        run.advance()
    kept = run.task.model.flat.copy()
    run.task.y[3, 0, 0] = value
    with pytest.raises(DivergenceError, match=r"step 3: loss .* smaller learning rate"):
        run.advance()
    np.testing.assert_array_equal(run.task.model.flat, kept)


class Clock:
    """Time that passes only when told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(train, "time", self)

    def monotonic(self):
        return self.now

    def pass_by(self, loss):
        self.now += 0.1


def test_a_time_becomes_a_length(rng, monkeypatch):
    run, clock = trainer(rng), Clock(monkeypatch)
    with pytest.raises(ValueError, match="no length and no time"):
        run.run()
    assert run.run(seconds=60.0, on_step=clock.pass_by)
    assert run.plan.total == run.steps
    assert abs(run.steps - 600) < 5


def test_a_slow_machine_takes_few_steps(rng, monkeypatch):
    run, clock = trainer(rng), Clock(monkeypatch)
    run.run(seconds=0.25, on_step=clock.pass_by)
    assert run.plan.total == run.steps == 4


def test_a_run_keeps_blas_to_one_thread(rng):
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        pools = threadpoolctl.threadpool_info()
        return [p["num_threads"] for p in pools if p["user_api"] == "blas"]

    before, inside = threads(), []
    trainer(rng, total=2).run(on_step=lambda _: inside.append(threads()))
    assert inside == [[1] * len(before)] * 2
    assert threads() == before


def test_stopping_and_going_on_repeats_the_straight_run(rng):
    seed = rng.integers(2**32)
    straight, parts = (trainer(np.random.default_rng(seed), total=30) for _ in range(2))
    assert straight.run()
    while not parts.run(stop=lambda: parts.steps % 7 == 0):
        assert parts.steps % 7 == 0
    np.testing.assert_array_equal(parts.task.model.flat, straight.task.model.flat)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step(rng, number):
    run = trainer(rng, total=1000)
    former = signal.getsignal(number)

    def send(loss):
        if run.steps == 3:
            os.kill(os.getpid(), number)

    with Interruption() as interruption:
        assert not interruption()
        assert not run.run(on_step=send, stop=interruption)
        assert interruption()
    assert run.steps == 3
    assert signal.getsignal(number) is former


def test_a_second_interrupt_is_not_held_back():
    def interrupt_twice():
        with Interruption():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()


def test_interruption_leaves_other_threads_alone():
    former = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with Interruption() as interruption:
            seen.append((interruption(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, former)]
