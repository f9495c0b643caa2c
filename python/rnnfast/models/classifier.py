"""Many to one: sequences sorted into classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array
from rnnfast.nn import Dense, cross_entropy, softmax

from .dropout import Dropout, masked
from .encoder import Encoder
from .model import Model


class SequenceClassifier(Model):
    """An encoder whose vectors are each projected and added, then projected to the classes.

    Parameters
    ----------
    labels : sequence of str
        The V classes.
    encoder : Encoder
        Makes one vector, or one for each direction.
    projection : int, optional
        Size of the sum of the projected vectors; by default they are projected to the classes
        themselves.
    dropout : float
        Probability of dropping a number of the vectors, in training.
    rng : None, int or numpy.random.Generator
        Source of the projections' initial weights and of dropout.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If there are fewer than two classes, or a number is out of range.
    """

    def __init__(
        self,
        labels: Sequence[str],
        encoder: Encoder,
        projection: int | None = None,
        *,
        dropout: float = 0.0,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        given = checks.parts("model: labels", labels, "a sequence of strings")
        self.labels = tuple(
            checks.string(f"model: labels[{i}]", label) for i, label in enumerate(given)
        )
        if len(self.labels) < 2:
            raise ValueError(f"model: got {len(self.labels)} classes, expected at least 2")
        checks.instance("model: encoder", encoder, Encoder, "an Encoder")
        self.encoder = encoder
        if projection is not None:
            projection = checks.integer("model: projection", projection, 1)
        generator = checks.generator("model: rng", rng)
        self._dropout = Dropout(dropout, generator)
        dtype = encoder.flat.dtype
        size = len(self.labels) if projection is None else projection
        # One bias is enough for a sum.
        self._projections = {
            f"projection.{i}": Dense(width, size, bias=i == 0, dtype=dtype, rng=generator)
            for i, width in enumerate(encoder.widths)
        }
        self._head = (
            None
            if projection is None
            else Dense(size, len(self.labels), dtype=dtype, rng=generator)
        )
        head = {} if self._head is None else {"head": self._head}
        super().__init__({"encoder": encoder, **self._projections, **head})

    def __call__(self, x: Array, lengths: Array | None = None) -> Array:
        """Logits of the classes.

        Parameters
        ----------
        x : numpy.ndarray
            (T, B, I) floats or (T, B) tokens.
        lengths : numpy.ndarray, optional
            (B,) steps of each sequence; all T unless given.

        Returns
        -------
        numpy.ndarray
            (B, V).

        Raises
        ------
        TypeError, ValueError
            If `x` or `lengths` does not fit.
        """
        vectors = self.encoder(x, lengths)
        projections = zip(self._projections.values(), vectors, strict=True)
        summed = _total([projection(vector) for projection, vector in projections])
        return summed if self._head is None else self._head(summed)

    def probabilities(self, x: Array, lengths: Array | None = None) -> Array:
        """Probabilities (B, V) of the classes; arguments and errors as in a call."""
        return softmax(self(x, lengths))

    def loss_and_gradient(
        self,
        x: Array,
        targets: Array,
        lengths: Array | None = None,
        weight: Array | None = None,
    ) -> float:
        """Compute the loss, with dropout, and leave its gradient in `self.gradient`.

        Parameters
        ----------
        x, lengths : numpy.ndarray
            As in a call.
        targets : numpy.ndarray
            (B,) integers in [0, V).
        weight : numpy.ndarray, optional
            (V,) weights of the classes, as in `rnnfast.nn.cross_entropy`.

        Returns
        -------
        float
            Mean cross-entropy in nats.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        vectors, encoded = self.encoder.forward(x, lengths)
        masks = [self._dropout.mask(vector) for vector in vectors]
        kept = [masked(vector, mask) for vector, mask in zip(vectors, masks, strict=True)]
        runs = [p.forward(v) for p, v in zip(self._projections.values(), kept, strict=True)]
        summed = _total([projected for projected, _ in runs])
        loss, dsum = self._head_loss(summed, targets, weight)
        dvectors = [
            self._through(name, projection, tape, dsum)
            for (name, projection), (_, tape) in zip(self._projections.items(), runs, strict=True)
        ]
        self.encoder.backward(encoded, [masked(d, m) for d, m in zip(dvectors, masks, strict=True)])
        return loss

    def _head_loss(
        self, summed: Array, targets: Array, weight: Array | None
    ) -> tuple[float, Array]:
        """Compute the loss from the projected sum (B, P), and the sum's gradient."""
        if self._head is None:
            return cross_entropy(summed, targets, weight=weight)
        logits, tape = self._head.forward(summed)
        loss, dlogits = cross_entropy(logits, targets, weight=weight)
        return loss, self._through("head", self._head, tape, dlogits)


def _total(arrays: list[Array]) -> Array:
    """Add arrays up, in the first one's place."""
    first, *rest = arrays
    for array in rest:
        first += array
    return first
