"""Many to one to many: a GRU reads a list of numbers into a vector, another writes it in order.

Takes about ten seconds; `rnnfast train sort` does the same with lists of 32 numbers.
"""

import argparse

import numpy as np

from rnnfast import GRU
from rnnfast.data import number_lists
from rnnfast.models import Decoder, Encoder, EncoderDecoder, remember
from rnnfast.optim import Adam, clip_grad_norm

T, V, H, B = 12, 10, 96, 64  # numbers in a list, different ones, units, lists side by side


def main(steps: int = 1000) -> None:
    """Train, and sort some lists."""
    rng = np.random.default_rng(0)

    # The encoder reads one-hot numbers; its last state is the vector. The decoder is given the
    # vector at every step, and nothing of what it has written.
    reader, writer = GRU(V, H, rng=rng), GRU(H, H, rng=rng)
    remember(reader, T, rng)  # units that forget at once could not count
    model = EncoderDecoder(Encoder(reader), Decoder(V, H, writer, feed="every", rng=rng))
    optimizer = Adam(model.flat, lr=1e-2)

    for step in range(steps):
        numbers, in_order = number_lists(T, V, B, rng)  # (T, B) each
        loss = model.loss_and_gradient(numbers, in_order)
        clip_grad_norm(model.gradient, 1.0)
        optimizer.step(model.gradient, lr=1e-2 * (1 - step / steps))
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.3f}")

    numbers, in_order = number_lists(T, V, 1000, rng)
    written, _ = model.generate(numbers, T)
    print(f"right: {(written == in_order).mean():.1%} of the numbers")
    for column in range(3):
        print("given ", *numbers[:, column])
        print("sorted", *written[:, column])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    main(parser.parse_args().steps)
