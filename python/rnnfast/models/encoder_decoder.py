"""Many to one to many: a sequence read into a vector, and another written from it."""

from __future__ import annotations

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array

from .decoder import Decoder
from .encoder import Encoder
from .model import Model


class EncoderDecoder(Model):
    """An encoder whose vectors, side by side, are the decoder's source.

    Parameters
    ----------
    encoder : Encoder
        Reads.
    decoder : Decoder
        Writes; its source is as wide as the encoder's vectors together.

    Raises
    ------
    TypeError, ValueError
        If it is not, or an argument is of the wrong type.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        checks.instance("model: encoder", encoder, Encoder, "an Encoder")
        checks.instance("model: decoder", decoder, Decoder, "a Decoder")
        if sum(encoder.widths) != decoder.source:
            raise ValueError(
                f"model: the decoder's source is {decoder.source} wide, "
                f"expected {sum(encoder.widths)}"
            )
        self.encoder, self.decoder = encoder, decoder
        super().__init__({"encoder": encoder, "decoder": decoder})

    def encode(self, x: Array, lengths: Array | None = None) -> Array:
        """Read sequences x, (T, B, I) or tokens (T, B), into vectors (B, S)."""
        return np.concatenate(self.encoder(x, lengths), axis=1)

    def generate(
        self,
        x: Array,
        limit: int,
        lengths: Array | None = None,
        end: int | None = None,
    ) -> tuple[Array, Array]:
        """Read sequences and write the likeliest; see `Encoder` and `Decoder.generate`."""
        return self.decoder.generate(self.encode(x, lengths), limit, end)

    def loss_and_gradient(self, x: Array, targets: Array, lengths: Array | None = None) -> float:
        """Compute the loss, and leave its gradient in `self.gradient`.

        Parameters
        ----------
        x, lengths : numpy.ndarray
            As for the encoder.
        targets : numpy.ndarray
            As for `Decoder.loss_and_gradient`.

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
        source = np.concatenate(vectors, axis=1)
        loss, dsource = self.decoder.loss_and_gradient(source, targets)
        ends = np.cumsum(self.encoder.widths)[:-1]
        self.encoder.backward(encoded, np.split(dsource, ends, axis=1))
        return loss
