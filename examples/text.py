"""A character model: predict the next character of a text, then let the model write.

The text is the source of Python's standard library. `rnnfast train text` does the same with
progress, checkpoints and a falling learning rate.
"""

import argparse

from rnnfast.data import TokenStreams, standard_library
from rnnfast.models import LanguageModel
from rnnfast.optim import Adam, clip_grad_norm

T, B, H = 128, 16, 256  # steps of a window, streams side by side, units


def main(steps: int = 600) -> None:
    """Train, judge and generate."""
    corpus = standard_library()
    training, held_out = corpus.split(T)
    model = LanguageModel.of(corpus.vocabulary, "gru", H, rng=0)
    optimizer = Adam(model.flat, lr=5e-3)

    # Training: the text runs as B streams, T characters at a time. The state after one window
    # is the initial state of the next; the gradient stops there (truncated BPTT).
    windows, states = TokenStreams(training, B, T), None
    for step in range(steps):
        x, targets = windows.cut(step)  # (T, B), the targets one step later
        loss, states = model.loss_and_gradient(x, targets, states)
        clip_grad_norm(model.gradient, 1.0)
        optimizer.step(model.gradient)
        if step % 100 == 0:
            print(f"step {step}: {loss:.3f} nats per character")

    # How well it predicts characters that it has never seen.
    x, targets = TokenStreams(held_out, B, T).cut(0)
    loss, _ = model.loss(x, targets)
    print(f"held-out: {loss:.3f} nats per character")

    # Generation: every character is drawn from the model's distribution and fed back.
    print("def " + model.generate(400, prompt="def ", temperature=0.7, rng=0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    main(parser.parse_args().steps)
