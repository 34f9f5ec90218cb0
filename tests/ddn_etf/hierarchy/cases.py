"""Random trees, and what must hold for them by the definition."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

REFERENCE = json.loads(
    (Path(__file__).parents[2] / "reference_values_hierarchy.json").read_text("utf-8")
)["haframe"]

BALANCED = {"pets": ["cat", "dog"], "cars": ["van", "bus"]}
UNEVEN = {"far": None, "near": {"b": ["b1", "b2", "b3"], "a": {"a1": ["x", "y"], "a2": None}}}


@st.composite
def mappings(draw, depth=3):
    """Nested mappings without chains, with names that say where a node is."""
    counter = iter(range(1000))

    def grow(level):
        name = f"n{next(counter)}"
        if level == 0 or (level < depth and draw(st.booleans())):
            return name, None
        children = [grow(level - 1) for _ in range(draw(st.integers(2, 3)))]
        return name, dict(children)

    return dict([grow(depth)])


def random_tree(num_leaves, seed=0):
    """Child to parent, by joining nodes at random from the leaves up."""
    generator = np.random.default_rng(seed)
    nodes = [f"leaf{k}" for k in range(num_leaves)]
    parents: dict[str, str] = {}
    for number in itertools.count():
        if len(nodes) == 1:
            break
        size = min(len(nodes), int(generator.integers(2, 5)))
        joined = generator.choice(len(nodes), size=size, replace=False)
        parent = f"inner{number}"
        parents |= {nodes[index]: parent for index in joined}
        nodes = [n for index, n in enumerate(nodes) if index not in joined] + [parent]
    return {f"leaf{k}": parents[f"leaf{k}"] for k in range(num_leaves)} | parents


def definition_of_distances(hierarchy):
    """The height of the lowest common ancestor, pair by pair."""

    def above(node):
        path = []
        while node != -1:
            path.append(node)
            node = hierarchy.parents[node]
        return path

    K = hierarchy.num_classes
    D = torch.zeros(K, K, dtype=torch.float64)
    for i, left in enumerate(hierarchy.leaves):
        for j, right in enumerate(hierarchy.leaves):
            common = next(node for node in above(left) if node in set(above(right)))
            D[i, j] = hierarchy.heights[common]
    return D


def inverse_sum(hierarchy, gamma):
    """1ᵀE⁻¹1 up the tree: an electrical network, with E⁻¹ its conductances.

    A node whose E has the value e has the resistance (e - e of its parent) in series with all its
    children in parallel. No matrix is formed and nothing is subtracted that is close.
    """
    largest = hierarchy.heights[0]
    children = hierarchy.children()

    def value(node):
        return np.exp(-gamma * hierarchy.heights[node] / largest)

    def resistance(node, above):
        own = value(node) - above
        if not children[node]:
            return own
        return own + 1 / sum(1 / resistance(child, value(node)) for child in children[node])

    return 1 / resistance(0, 0.0)
