"""Linear regression from R^10 to R^15: y = W x + b, by gradient descent.

The data are made by known weights and noise, so that what is learnt can be compared with them and
with the exact least-squares solution. Takes a second.
"""

import argparse

import numpy as np

from rnnfast.models import FeedForward
from rnnfast.nn import mse_loss
from rnnfast.optim import SGD

ROWS, NOISE = 500, 0.1


def main(steps: int) -> None:
    """Fit the model and print how near it comes."""
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((15, 10)), rng.standard_normal(15)
    x = rng.standard_normal((ROWS, 10))
    y = x @ weight.T + bias + NOISE * rng.standard_normal((ROWS, 15))

    model = FeedForward([10, 15], loss=mse_loss, dtype="float64", rng=rng)
    optimizer = SGD(model.flat, lr=5.0)
    for step in range(steps):
        loss = model.loss_and_gradient(x, y)
        optimizer.step(model.gradient)
        if step % 10 == 0:
            print(f"step {step}: mean squared error {loss:.6f}")

    exact, *_ = np.linalg.lstsq(np.hstack([x, np.ones((ROWS, 1))]), y, rcond=None)
    learnt = model.parameters["layers.0.weight"]
    print(f"mean squared error {model.loss(x, y):.6f}; the noise has {NOISE**2:.6f}")
    print(
        f"largest difference of a weight to least squares: {abs(learnt - exact[:-1].T).max():.1e}"
    )
    print(f"to the weights that made the data: {abs(learnt - weight).max():.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    main(parser.parse_args().steps)
