"""The multi-layer perceptron: two interlocked spirals, which no line can separate.

A model without a hidden layer and one with two are trained alike; the picture shows what the second
has learnt. Takes a few seconds.
"""

import argparse

import numpy as np

from rnnfast.models import FeedForward
from rnnfast.optim import Adam

POINTS = 400  # of each class


def spirals(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) of two spirals, and which one each is of."""
    classes = np.repeat([0, 1], POINTS)
    radius = np.sqrt(rng.uniform(0.02, 1.0, 2 * POINTS))
    angle = 3 * np.pi * radius + np.pi * classes
    points = radius * np.array([np.cos(angle), np.sin(angle)])
    return (points.T + 0.02 * rng.standard_normal((2 * POINTS, 2))).astype("f4"), classes


def train(sizes: list[int], steps: int) -> FeedForward:
    """Train a model of these sizes and tell how good it becomes on points of its own."""
    rng = np.random.default_rng(0)
    x, classes = spirals(rng)
    model = FeedForward(sizes, "tanh", rng=rng)
    optimizer = Adam(model.flat, lr=0.01)
    for _ in range(steps):
        loss = model.loss_and_gradient(x, classes)
        optimizer.step(model.gradient)
    others, expected = spirals(rng)
    right = (model(others).argmax(axis=1) == expected).mean()
    print(f"sizes {sizes}: cross-entropy {loss:.3f}, {right:.1%} of other points right")
    return model


def main(steps: int) -> None:
    """Compare the linear model with the perceptron."""
    train([2, 2], steps)
    model = train([2, 32, 32, 2], steps)
    across, down = np.meshgrid(np.linspace(-1.1, 1.1, 56), np.linspace(1.1, -1.1, 26))
    classes = model(np.stack([across, down], axis=-1).astype("f4")).argmax(axis=-1)
    print("\n".join("".join(".#"[c] for c in row) for row in classes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    main(parser.parse_args().steps)
