"""Many to one: tell whether a line of Python is code, a comment or of a docstring.

A GRU reads each line forward, another one backward. Their last outputs are projected to the
classes and added. Takes some ten seconds; `rnnfast train sentiment` does the same, and more.
"""

import argparse

import numpy as np

from rnnfast.confusion import Confusion
from rnnfast.data import Hiding, TextBatches, library_lines
from rnnfast.models import TextClassifier
from rnnfast.optim import Adam, clip_grad_norm

HIDDEN, LENGTH, BATCH, RATE = 64, 64, 32, 5e-3


def main(steps: int = 1000) -> None:
    """Train, judge by the held-out lines, and label some others."""
    texts = library_lines(LENGTH)  # read_labelled("tweets.tsv", seq_length=LENGTH) for a file
    batches = TextBatches(texts, BATCH, seed=0, hiding=Hiding(words=0.25))
    model = TextClassifier.of(
        texts.vocabulary, texts.labels, "gru", HIDDEN,
        stacks="independent", seq_length=LENGTH, rng=0,
    )  # fmt: skip
    optimizer = Adam(model.flat, RATE)

    for step in range(steps):
        tokens, lengths, targets = batches.cut(step)  # (T, B), (B,), (B,)
        loss = model.loss_and_gradient(tokens, targets, lengths)
        clip_grad_norm(model.gradient, 1.0)
        optimizer.step(model.gradient, lr=RATE * (1 - step / steps))
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.3f}")

    confusion = Confusion(texts.labels)
    for tokens, lengths, targets in texts.test_batches(128):
        confusion.add(targets, model.probabilities(tokens, lengths).argmax(axis=1))
    print(f"\nheld-out accuracy {confusion.accuracy:.3f}\n\n{confusion}\n")

    lines = ["for i in range(10):", "Return the number of items.", "this should never happen"]
    for line, shares in zip(lines, model.predict(lines), strict=True):
        best = int(np.argmax(shares))
        print(f"{line!r}: {texts.labels[best]} ({shares[best]:.0%})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    main(parser.parse_args().steps)
