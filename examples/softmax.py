"""The softmax classifier on one-hot rows: which character follows another one.

A single dense layer from the set of characters to itself has a logit for every pair. Trained with
cross-entropy, its softmax becomes the table of conditional probabilities, which can also be
counted; so the best loss is known. Takes a few seconds.
"""

import argparse
import inspect

import numpy as np

from rnnfast.data import Vocabulary
from rnnfast.models import FeedForward
from rnnfast.nn import softmax
from rnnfast.optim import Adam


def main(steps: int) -> None:
    """Learn the pairs of characters in the source of Python's module argparse."""
    text = inspect.getsource(argparse).lower()
    vocabulary = Vocabulary("".join(sorted(set(text))))
    tokens, size = vocabulary.encode(text), len(vocabulary)
    x, targets = np.eye(size, dtype="f4")[tokens[:-1]], tokens[1:]

    counts = np.zeros((size, size))
    np.add.at(counts, (tokens[:-1], targets), 1)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    best = -(counts[counts > 0] * np.log(shares[counts > 0])).sum() / counts.sum()

    model = FeedForward([size, size], rng=0)  # its loss is cross-entropy unless another is given
    optimizer = Adam(model.flat, lr=0.1)
    for step in range(steps):
        loss = model.loss_and_gradient(x, targets)
        optimizer.step(model.gradient)
        if step % 20 == 0:
            print(f"step {step}: cross-entropy {loss:.4f} nats")
    print(f"at the end {model.loss(x, targets):.4f}; by counting {best:.4f}")

    learnt = softmax(model(np.eye(size, dtype="f4")))
    for letter in "qth":
        row = learnt[vocabulary.encode(letter)[0]]
        likely = [f"{vocabulary.characters[i]!r} {row[i]:.0%}" for i in row.argsort()[:-4:-1]]
        print(f"after {letter!r}: {', '.join(likely)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
