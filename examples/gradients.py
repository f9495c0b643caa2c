"""Vanishing gradients: what is left of the last output's gradient so many steps back in time.

The loss is a random direction times the last output; BPTT gives its gradient with respect to every
input. `rnnfast gradients` prints the same table and draws it. Takes a second.
"""

import argparse

import numpy as np

import rnnfast
from rnnfast.gradients import compare, table

HIDDEN, BATCH = 64, 16


def main(steps: int) -> None:
    """Measure one cell by hand, then all with the library's function."""
    rng = np.random.default_rng(0)
    lstm = rnnfast.LSTM(HIDDEN, HIDDEN, dtype="float64", rng=rng)
    y, _, tape = lstm.forward(rng.standard_normal((steps, BATCH, HIDDEN)))
    dy = np.zeros_like(y)
    dy[-1] = rng.standard_normal((BATCH, HIDDEN))
    dx = lstm.backward(tape, dy).x
    norms = np.linalg.norm(dx, axis=-1).mean(axis=-1)  # (T,)
    print(f"an LSTM's first input gets {norms[0] / norms[-1]:.1e} of the last one's gradient\n")
    print(table(compare(["basic", "lstm", "gru"], steps, HIDDEN)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100, help="of the sequences, at least 2")
    main(parser.parse_args().steps)
