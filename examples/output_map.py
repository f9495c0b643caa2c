"""The basic cell with an output map of its own, which learns to be a ticket machine.

y_t = σ(A_u x_t + B_u s_{t-1} + b_u), s_t = tanh(A_v x_t + B_v s_{t-1} + b_v): the output is due at
the very coin that completes the price, by that coin and the state before it. The model sees only
coins and tickets, 20 steps long, and then runs for 1,000. Takes a few seconds.
"""

import argparse

import numpy as np

from rnnfast.models import OutputMapRNN
from rnnfast.nn import mse_loss
from rnnfast.optim import Adam, clip_grad_norm

COINS, PRICE = (5, 10), 15
BATCH, HIDDEN = 32, 24


def sales(rng: np.random.Generator, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Coins as one-hot rows (T, B, 2), and whether each brings a ticket (T, B, 1)."""
    chosen = rng.integers(len(COINS), size=(length, BATCH))
    tickets, paid = np.zeros((length, BATCH, 1), "f4"), np.zeros(BATCH, int)
    for t, coins in enumerate(np.array(COINS)[chosen]):
        paid += coins
        tickets[t, :, 0] = paid >= PRICE
        paid[paid >= PRICE] = 0  # the machine gives no change
    return np.eye(len(COINS), dtype="f4")[chosen], tickets


def main(steps: int) -> None:
    """Train, and let the model run for longer than it was trained on."""
    rng = np.random.default_rng(0)
    model = OutputMapRNN(len(COINS), HIDDEN, 1, "sigmoid", rng=rng)
    optimizer = Adam(model.flat, lr=0.01)
    for step in range(steps):
        x, tickets = sales(rng, 20)
        y, _, tape = model.forward(x)
        loss, dy = mse_loss(y, tickets)
        model.backward(tape, dy)
        clip_grad_norm(model.gradient, 1.0)
        optimizer.step(model.gradient)
        if step % 100 == 0:
            print(f"step {step}: squared error {loss:.4f}")

    x, tickets = sales(rng, 1000)
    right = (model(x)[0] > 0.5) == tickets
    print(f"coins answered rightly: {right.mean():.2%} of {right.size:,}")
    state = None
    for coin in (5, 5, 10, 10, 5, 5, 5, 5):
        y, state = model.step(np.eye(len(COINS), dtype="f4")[COINS.index(coin)], state)
        print(f"{coin:2d}: {'ticket' if y[0] > 0.5 else '-'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    main(parser.parse_args().steps)
