"""The recurrent layers in plain NumPy: the arbiter that the compiled kernels are checked against.

Written to be read beside a textbook, in this order:

- `cell`: what every cell is made of: weights, the product, one step
- `activations`: σ, tanh, ReLU and their slopes
- `basic`, `lstm`, `gru`: one step of each cell and its derivative
- `sequence`: one direction of one layer: the loop over time, lengths, resets
- `stack`: layers × directions
- `dropout`: which outputs between the layers are dropped
- `parameters`: options, names and shapes of the parameters, their one flat buffer
- `arguments`: the arrays of a call: their checks and how they lie
- `layers`: RNN, LSTM and GRU as the user calls them
- `stream`: sequences that come block by block

Whatever has a derivative returns, last, the function `back`, which takes ``dv``, the derivative of
the loss with respect to each result v, to those with respect to the arguments; gradients of weights
it adds to those passed to it, ``dw``. All works in float32, float64 and, so that gradients can be
verified by complex-step derivatives (Squire and Trapp 1998), in complex numbers: there is no
conjugate anywhere. Where no dtype is stated, arrays have the layer's.

Letters: T time steps, B sequences, I inputs, H hidden units, P projected units (LSTM only),
R = P or H the width of h, G gates, D directions, L layers; · is a width that differs between the
states, ∘ the product of elements. Gates are stacked along the rows of the weights: LSTM i, f, g, o;
GRU r, z, n.
"""

from .dropout import dropout_factor
from .layers import GRU, LSTM, RNN, Gradients, Tape

__all__ = ["GRU", "LSTM", "RNN", "Gradients", "Tape", "dropout_factor"]
