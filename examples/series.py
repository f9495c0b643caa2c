"""Many to many: continue a series. 40 values in, the same shifted by one out; then fed back.

`rnnfast train series --data FILE.csv` does the same with a file.
"""

import argparse

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rnnfast.data import ShuffledBatches, waves
from rnnfast.models import Forecaster
from rnnfast.optim import Adam, clip_grad_norm

T, B, H = 40, 32, 100  # steps of a window, windows side by side, units
CUT = 1200  # values to train on; the rest is the test


def rmse(expected: np.ndarray, true: np.ndarray) -> float:
    """Root mean squared error."""
    return float(np.sqrt(np.square(expected - true).mean()))


def main(steps: int = 180) -> float:
    """Train, judge one step ahead, and go on from the end."""
    series = waves().values
    train, test = series[:CUT], series[CUT:]

    # 1 -> 100 -> 1; the scaling is learnt on the training part alone.
    model = Forecaster.of("gru", H, window=T, mean=train.mean(), deviation=train.std(), rng=0)
    optimizer = Adam(model.flat, lr=3e-3)
    windows = sliding_window_view(model.scale(train), T + 1)
    batches = ShuffledBatches(len(windows), B, seed=0)

    for step in range(steps):
        batch = np.ascontiguousarray(windows[batches.cut(step)].T[:, :, None])  # (T + 1, B, 1)
        loss, _ = model.loss_and_gradient(batch[:-1], batch[1:])
        clip_grad_norm(model.gradient, 1.0)
        optimizer.step(model.gradient)
        if step % 20 == 0:
            print(f"step {step}: loss {loss:.4f}")

    expected, before = model.one_ahead(series[CUT - T :]), series[CUT - 1 : -1]
    print(f"one step ahead: RMSE {rmse(expected, test):.3f}")
    print(f"persistence, the next value is the last one: {rmse(before, test):.3f}")
    print("the next ten:", model.forecast(series, 10).round(2))
    return rmse(expected, test) / rmse(before, test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=180)
    main(parser.parse_args().steps)
