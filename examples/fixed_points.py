"""Fixed points f*: a cell that sees the same input for ever.

Small recurrent weights always lead to one fixed point, whatever the first state; larger ones to
several, or to none: the state swings. A second input moves the point. Takes a second.
"""

import argparse

import numpy as np

import rnnfast
from rnnfast.models import fixed_point


def main(steps: int) -> None:
    """Iterate a basic cell of two units, with recurrent weights of several kinds."""
    cell = rnnfast.RNN(1, 2, bias=False)  # tanh
    cell.parameters["weight_ih_l0"][...] = [[0.5], [-0.5]]
    kinds = {
        "contracting": [[0.5, 0.2], [0.2, 0.5]],
        "two memories": [[2.0, 0.0], [0.0, 2.0]],
        "swinging": [[-2.0, 0.0], [0.0, -2.0]],
        "turning": [[0.0, -2.0], [2.0, 0.0]],
    }
    starts = np.array([[[0.9, 0.9], [-0.9, -0.9], [0.9, -0.9]]], "f4")
    for kind, weights in kinds.items():
        cell.parameters["weight_hh_l0"][...] = weights
        print(f"{kind}, W_hh = {weights}")
        for value in (0.0, 0.3):
            for start in starts[0]:
                found = fixed_point(cell, np.array([value], "f4"), start[None], limit=steps)
                end = ", ".join(f"{s:+.3f}" for s in found.state[0])
                told = f"rests at ({end})" if found.converged else "has not come to rest"
                print(f"  x = {value}: from {start} {told} after {found.steps} steps")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="at most")
    main(parser.parse_args().steps)
