"""A Hopfield network: a basic cell whose fixed points are pictures that it has stored.

The recurrent weights are Hebb's, the input is silent, and a damaged picture is the first state:
s ← tanh(g W s). Takes a second.
"""

import argparse

import numpy as np

import rnnfast
from rnnfast.models import fixed_point

PICTURES = """
##......##  ....##....  ..######..  #####.....
.##....##.  ...####...  .########.  #####.....
..##..##..  ..##..##..  ##......##  #####.....
...####...  .##....##.  #........#  #####.....
....##....  ##......##  #........#  #####.....
....##....  ##########  #........#  .....#####
...####...  ##########  #........#  .....#####
..##..##..  ##......##  ##......##  .....#####
.##....##.  ##......##  .########.  .....#####
##......##  ##......##  ..######..  .....#####
"""
GAIN, DAMAGE = 4.0, 0.2


def read(pictures: str) -> np.ndarray:
    """Turn pictures side by side into rows of 1 and -1."""
    columns = zip(*(line.split() for line in pictures.split("\n") if line), strict=True)
    return np.array([[1 if c == "#" else -1 for c in "".join(column)] for column in columns], "f4")


def show(*rows: np.ndarray) -> str:
    """Draw pictures side by side."""
    grids = [np.where(row.reshape(10, 10) > 0, "#", ".") for row in rows]
    return "\n".join("  ".join("".join(grid[i]) for grid in grids) for i in range(10))


def main(steps: int) -> None:
    """Store four pictures, damage them, and let the network restore them."""
    patterns = read(PICTURES)
    count, units = patterns.shape

    network = rnnfast.RNN(1, units, bias=False)  # tanh
    weights = patterns.T @ patterns / units  # Hebb: units that agree in the pictures are joined
    np.fill_diagonal(weights, 0.0)
    network.parameters["weight_hh_l0"][...] = GAIN * weights

    noise = np.random.default_rng(0).random(patterns.shape) < DAMAGE
    damaged = np.where(noise, -patterns, patterns)
    silence = np.zeros((count, 1), "f4")
    found = fixed_point(network, silence, damaged[None], limit=steps)

    restored = np.sign(found.state[0])
    print("damaged:", show(*damaged), "\nrestored:", show(*restored), "", sep="\n")
    print(f"{'stopped' if found.converged else 'still changing'} after {found.steps} steps")
    wrong = (damaged != patterns).sum(axis=1), (restored != patterns).sum(axis=1)
    print(f"wrong cells of {units}: before {wrong[0].tolist()}, after {wrong[1].tolist()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100, help="at most")
    main(parser.parse_args().steps)
