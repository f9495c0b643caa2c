"""Small texts and trainings of character models on them."""

from rnnfast.run import Run
from rnnfast.systems import Text, TextSettings

WORDS = ("alpha", "beta", "gamma", "delta", "omega")


def write_text(path, rng, words=600):
    """Write random words to a file and return its path."""
    path.write_text(" ".join(rng.choice(WORDS, size=words)) + "\n", encoding="utf-8")
    return str(path)


def settings(path, **changes):
    """Make the settings of a small model with two layers and dropout."""
    small = {
        "data": path, "cell": "gru", "layers": 2, "hidden": 12, "seq_length": 16, "batch": 4,
        "epochs": 1, "dropout": 0.2,
    }  # fmt: skip
    return TextSettings(**{**small, **changes})


def start(chosen):
    """Begin a training of a character model."""
    return Run(Text, chosen)
