"""Many to one: read handwritten digits row by row, and tell which they are.

The images are scikit-learn's, of 8 x 8 pixels. `rnnfast train digits` reads those of MNIST too.
"""

import argparse

import numpy as np

from rnnfast import GRU
from rnnfast.confusion import Confusion
from rnnfast.data import Images, ShuffledBatches, small_digits
from rnnfast.models import Encoder, SequenceClassifier
from rnnfast.optim import Adam, clip_grad_norm

B, H = 32, 64  # images side by side, units


def sequences(images: Images) -> np.ndarray:
    """Rows as steps: (8, N, 8)."""
    return np.ascontiguousarray(images.pixels.transpose(1, 0, 2) / np.float32(255))


def main(steps: int = 450) -> Confusion:
    """Train, and judge by the held-out images."""
    data = small_digits()
    x, labels = sequences(data.training), data.training.classes
    rng = np.random.default_rng(0)
    model = SequenceClassifier(data.labels, Encoder(GRU(x.shape[2], H, rng=rng)), rng=rng)
    optimizer = Adam(model.flat, lr=5e-3)
    batches = ShuffledBatches(len(labels), B, seed=0)

    for step in range(steps):
        rows = batches.cut(step)
        loss = model.loss_and_gradient(x[:, rows], labels[rows])
        clip_grad_norm(model.gradient, 1.0)
        optimizer.step(model.gradient)
        if step % 50 == 0:
            print(f"step {step}: loss {loss:.4f}")

    table = Confusion(data.labels)
    table.add(data.held_out.classes, model(sequences(data.held_out)).argmax(axis=1))
    print(f"accuracy {table.accuracy:.1%}\n\n{table}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=450)
    main(parser.parse_args().steps)
