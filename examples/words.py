"""A word model: predict the next word of a text, continue a sentence, suggest what comes next.

The text is the documentation of Python's standard library. `rnnfast train words` and
`rnnfast suggest` do the same from the command line.
"""

import argparse
import math

from rnnfast.data import TokenStreams, documentation
from rnnfast.models import LanguageModel, Writer
from rnnfast.optim import Adam, clip_grad_norm

T, B, H, V = 20, 32, 128, 4000  # steps of a window, streams side by side, units, words


def main(steps: int = 1200) -> None:
    """Train, judge, generate and suggest."""
    corpus = documentation(limit=V)
    training, held_out = corpus.split(T)
    model = LanguageModel.of(corpus.vocabulary, "lstm", H, rng=0)
    optimizer = Adam(model.flat, lr=5e-3)

    # Training: as for characters, but a token is a word or a punctuation mark, and what is
    # rarer than the V most frequent ones is one and the same unknown word.
    windows, states = TokenStreams(training, B, T), None
    for step in range(steps):
        x, targets = windows.cut(step)
        loss, states = model.loss_and_gradient(x, targets, states)
        clip_grad_norm(model.gradient, 1.0)
        optimizer.step(model.gradient)
        if step % 200 == 0:
            print(f"step {step}: perplexity {math.exp(loss):.1f}")

    # Perplexity: among how many equally likely words the model would be as unsure.
    x, targets = TokenStreams(held_out, B, T).cut(0)
    loss, _ = model.loss(x, targets)
    print(f"held-out: perplexity {math.exp(loss):.1f}")

    # One to many: from a seed sentence to the end of the paragraph, 60 words at most.
    seed = "Return the value"
    words = model.sample(seed, temperature=0.7, rng=0, stop="\n\n", limit=60)
    print(seed + "".join(words).rstrip())

    # Writing together: the writer keeps the model's state and reads nothing twice.
    writer = Writer(model, seed)
    for word in ("of", "the"):
        for suggestion in writer.suggestions(3):
            print(f"  {suggestion.probability:6.1%} {suggestion.text}")
        print(f"> {word}")
        writer.write(word)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1200)
    main(parser.parse_args().steps)
