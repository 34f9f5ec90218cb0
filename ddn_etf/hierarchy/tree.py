"""A hierarchy of classes: a tree whose leaves are the classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn_etf.hierarchy.edges import Edges, edges_of_mapping, edges_of_parents, edges_of_paths
from ddn_etf.hierarchy.errors import HierarchyError
from ddn_etf.hierarchy.newick import edges_of_newick
from ddn_etf.hierarchy.ordering import (
    OrderedNodes,
    root_first,
    without_chains,
    without_other_leaves,
)
from ddn_etf.hierarchy.ultrametric import edges_of_distances

__all__ = ["Hierarchy"]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A rooted tree over K >= 2 classes, its leaves, with a height at every node.

    The distance of two classes is the height of their lowest common ancestor. Leaves have height 0.
    Without edge lengths an inner node is one higher than the highest of its children, so its
    height is the number of edges on the longest way down to a leaf (Bertinetto et al., "Making
    Better Mistakes", 2020). With edge lengths it is the length of the longest way down. Either way
    D is an ultrametric: D_ij <= max(D_ik, D_kj).

    Build one with :meth:`from_mapping`, :meth:`from_parents`, :meth:`from_paths`,
    :meth:`from_newick` or :meth:`from_distances`. ``print`` draws it.

    Args:
        names: of the nodes, every parent before its children; "" for inner nodes without a name.
        parents: index of each node's parent, -1 for the root, which is the first node.
        heights: of the nodes; 0 of the leaves, positive and finite of all others.
        leaves: the nodes that are the classes 0, ..., K-1.

    Raises:
        HierarchyError: not such a tree.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heights: tuple[float, ...]
    leaves: tuple[int, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(self.parents) != count or len(self.heights) != count:
            raise HierarchyError("names, parents and heights must be of equal length")
        if len(self.leaves) < 2:
            raise HierarchyError(f"a hierarchy needs at least two leaves, found {len(self.leaves)}")
        inner = set(self.parents)
        for node, (parent, height) in enumerate(zip(self.parents, self.heights, strict=True)):
            if not -1 <= parent < node or (parent == -1) != (node == 0):
                raise HierarchyError(f"node {node}: every parent must come before its children")
            if node and not 0 <= height <= self.heights[parent]:
                raise HierarchyError(
                    f"node {self.names[node]!r} has height {height} below a node of height "
                    f"{self.heights[parent]}; heights must not fall on the way up"
                )
            if node not in inner and height != 0:
                raise HierarchyError(f"leaf {self.names[node]!r} has height {height}; it must be 0")
            if node in inner and not 0 < height < math.inf:
                raise HierarchyError(
                    f"the node {self.names[node]!r} above {self._first_leaf(node)!r} has height "
                    f"{height}: the height of a group must be a positive number, for classes at "
                    "distance 0 cannot be told apart; give the edges below it positive lengths, or "
                    "leave the lengths out (edge_lengths=False)"
                )
        if sorted(self.leaves) != [node for node in range(count) if node not in inner]:
            raise HierarchyError("leaves must hold every node without children once")
        seen: set[str] = set()
        for name in self.leaf_names:
            if not name or name in seen:
                raise HierarchyError(
                    f"two leaves are called {name!r}; classes need different names"
                    if name
                    else "a leaf has no name; classes need names"
                )
            seen.add(name)

    def _first_leaf(self, node: int) -> str:
        while node in self.parents:
            node = self.parents.index(node)
        return self.names[node]

    @classmethod
    def from_mapping(
        cls, tree: Mapping[str, object], *, collapse_chains: bool = False
    ) -> Hierarchy:
        """From nested mappings of a name to its children.

        >>> print(Hierarchy.from_mapping({"pet": ["cat", "dog"], "car": None}))
        root
        ├── pet
        │   ├── cat
        │   └── dog
        └── car

        Args:
            tree: children are a mapping again or a sequence of names (and mappings); None, or
                nothing in it, stands for a leaf. A single key at the top is the root; several are
                the children of a root called "root". Classes are numbered in reading order.
            collapse_chains: replace a node that has one child by that child. Without it such a
                node is an error: it makes everything above it higher, and says nothing.

        Raises:
            TypeError: something else than mappings, sequences and names.
            HierarchyError: fewer than two leaves, two with one name, or a node with one child.
        """
        return cls._from_edges(edges_of_mapping(tree), collapse_chains)

    @classmethod
    def from_parents(
        cls, parents: Mapping[str, str | None], *, collapse_chains: bool = False
    ) -> Hierarchy:
        """From child to parent, as WordNet lists hypernyms.

        Args:
            parents: every node but the root, which may be there with None. Classes are numbered in
                the order of their keys.
            collapse_chains: see :meth:`from_mapping`.

        Raises:
            TypeError: not a mapping of names to names.
            HierarchyError: a cycle, two roots, fewer than two leaves, or a node with one child.
        """
        return cls._from_edges(edges_of_parents(parents), collapse_chains)

    @classmethod
    def from_paths(
        cls, paths: Iterable[Sequence[str]], *, collapse_chains: bool = False
    ) -> Hierarchy:
        """From one path of names to each class, root first.

        These are what ``synset.hypernym_paths()`` of NLTK gives, with ``name()`` of each synset; it
        gives several where WordNet has several, and a tree needs one of them.

        Args:
            paths: classes are numbered in their order.
            collapse_chains: see :meth:`from_mapping`.

        Raises:
            TypeError: a path that is not a sequence of names.
            HierarchyError: a node with two parents, a class that is an inner node, a path twice,
                two roots, fewer than two leaves, or a node with one child.
        """
        return cls._from_edges(edges_of_paths(paths), collapse_chains)

    @classmethod
    def from_newick(
        cls, text: str, *, edge_lengths: bool = True, collapse_chains: bool = False
    ) -> Hierarchy:
        """From the Newick format, for example ``((cat:1,dog:1)pet:2,car:3);``.

        With edge lengths the height of a node is the length of the longest way down to a leaf. If
        all leaves are equally far from the root, as in a dated phylogeny, D is half of the length
        of the path between two leaves; otherwise paths do not give an ultrametric, and D says how
        far one must go up in the deeper branch. Edges of length 0 are allowed, as dated phylogenies
        have them above a node with many children, but not all below one node: its classes would be
        at distance 0.

        Args:
            text: one tree. Classes are numbered in reading order.
            edge_lengths: use the lengths, if there are any; else every edge counts 1.
            collapse_chains: see :meth:`from_mapping`. The lengths are added.

        Raises:
            TypeError: not a text.
            HierarchyError: not in this format, lengths that are negative or at some edges only,
                classes at distance 0, fewer than two leaves, two with one name, or a node with one child.
        """
        edges = edges_of_newick(text)
        if not edge_lengths:
            edges = Edges(edges.names, edges.parents)
        return cls._from_edges(edges, collapse_chains)

    @classmethod
    def from_distances(
        cls,
        distances: Tensor | NDArray[Any] | Sequence[Sequence[float]],
        names: Sequence[str] | None = None,
        *,
        linkage: str | None = None,
        tolerance: float | None = None,
    ) -> Hierarchy:
        """From a matrix of distances: the tree in which they are the heights of common ancestors.

        Args:
            distances: D, (K, K), symmetric, zero on the diagonal and positive elsewhere.
            names: of the classes; "0", "1", ... if not given.
            linkage: what to do with a matrix that is no ultrametric, D_ij <= max(D_ik, D_kj): by
                default it is an error. A method of :func:`scipy.cluster.hierarchy.linkage`
                (``"average"``, ``"complete"``, ``"single"``) takes the tree of that method instead,
                whose distances are then other ones.
            tolerance: how far rounding may have taken D from an ultrametric, relative to the largest
                distance: 1e-5, say, for numbers printed with six digits. The distances of the tree
                are within that of D (without a linkage). If not given, 1e-9, or what the
                dtype of D needs: 1.9e-6 for float32.

        Raises:
            TypeError: distances that are no numbers, or a tolerance that is none.
            ValueError: a tolerance outside [0, 1).
            HierarchyError: not such a matrix, not an ultrametric, or not one name per class.
        """
        return cls._from_edges(edges_of_distances(distances, names, linkage, tolerance), False)

    @classmethod
    def _from_edges(cls, edges: Edges, collapse_chains: bool) -> Hierarchy:
        return cls(*root_first(edges, collapse_chains=collapse_chains))

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.leaves)

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """The classes 0, ..., K-1 by name."""
        return tuple(self.names[leaf] for leaf in self.leaves)

    @property
    def height(self) -> float:
        """Of the root: the largest distance there is, if the root has two children."""
        return self.heights[0]

    @property
    def distances(self) -> Tensor:
        """Heights of lowest common ancestors, D (K, K), float64 on the host; made anew in each call."""
        ranges, order = self._leaf_ranges()
        D = torch.zeros(self.num_classes, self.num_classes, dtype=torch.float64, device="cpu")
        # From the root down: a block is overwritten by what is known better below.
        for (start, stop), height in zip(ranges, self.heights, strict=True):
            D[start:stop, start:stop] = height
        position = torch.tensor(order, device="cpu")
        return D[position][:, position].contiguous()

    def _leaf_ranges(self) -> tuple[list[tuple[int, int]], list[int]]:
        """The leaves below each node as a range of a depth-first order, and the classes in it."""
        children = self.children()
        ranges = [(0, 0)] * len(self.names)
        place: dict[int, int] = {}
        # Depth first, each node once on the way down and once on the way up.
        waiting = [(0, False)]
        while waiting:
            node, done = waiting.pop()
            if done:
                ranges[node] = (ranges[node][0], len(place))
                continue
            ranges[node] = (len(place), 0)
            waiting.append((node, True))
            if not children[node]:
                place[node] = len(place)
            waiting += [(child, False) for child in reversed(children[node])]
        return ranges, [place[leaf] for leaf in self.leaves]

    def children(self) -> list[list[int]]:
        """The children of each node, in order."""
        children: list[list[int]] = [[] for _ in self.names]
        for node, parent in enumerate(self.parents[1:], start=1):
            children[parent].append(node)
        return children

    def select(self, names: Sequence[str]) -> Hierarchy:
        """The same hierarchy over some of its classes, or over all of them in another order.

        Heights stay, so distances stay; nodes that are left with one child disappear.

        Args:
            names: the classes, in their new order.

        Raises:
            TypeError: no sequence of names.
            HierarchyError: a name that is no leaf, one twice, or fewer than two.
        """
        if not isinstance(names, Sequence):
            raise TypeError(f"names must be a sequence of names of classes, found {names!r}")
        index = dict(zip(self.leaf_names, self.leaves, strict=True))
        unknown = [name for name in names if name not in index]
        if unknown:
            shown = ", ".join(map(repr, self.leaf_names[:10]))
            raise HierarchyError(
                f"{unknown[0]!r} is no leaf of this hierarchy; its leaves are {shown}"
                f"{', ...' if self.num_classes > 10 else ''}"
            )
        if len(set(names)) < len(names):
            raise HierarchyError("a class is named twice; name each class once")
        leaves = tuple(index[name] for name in names)
        if len(leaves) < 2:
            raise HierarchyError(f"a hierarchy needs at least two leaves, found {len(leaves)}")
        tree = OrderedNodes(self.names, self.parents, self.heights, leaves)
        return Hierarchy(*without_chains(without_other_leaves(tree)))

    def __str__(self) -> str:
        """The tree drawn with lines, one node per line."""
        children = self.children()
        lines = []
        waiting = [(0, "", "")]
        while waiting:
            node, first, rest = waiting.pop()
            lines.append(f"{first}{self.names[node] or '*'}")
            below = children[node]
            drawn = [
                (child, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))
                for child, last in ((child, child == below[-1]) for child in below)
            ]
            waiting += reversed(drawn)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Hierarchy({self.num_classes} leaves, height {self.height:g})"
