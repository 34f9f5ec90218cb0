"""From edges in any order to a checked tree with every parent before its children."""

from __future__ import annotations

from typing import NamedTuple

from ddn_etf.hierarchy.edges import Edges
from ddn_etf.hierarchy.errors import HierarchyError

__all__ = ["OrderedNodes", "root_first", "without_chains", "without_other_leaves"]


class OrderedNodes(NamedTuple):
    """A tree as :class:`~ddn_etf.hierarchy.Hierarchy` keeps it.

    Attributes:
        names: of the nodes.
        parents: indices, each smaller than its node's; -1 for the root, which comes first.
        heights: of the nodes.
        leaves: the nodes that are the classes, in their order.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heights: tuple[float, ...]
    leaves: tuple[int, ...]


def root_first(edges: Edges, *, collapse_chains: bool) -> OrderedNodes:
    """Find the root, put the nodes in depth-first order and give them heights.

    Args:
        edges: in any order.
        collapse_chains: replace a node that has one child by that child; without edge lengths the
            edge to it counts 1, with them the lengths are added.

    Raises:
        HierarchyError: no root or several, nodes that no way leads to from the root (a cycle), or
            a node with one child without ``collapse_chains``.
    """
    children: list[list[int]] = [[] for _ in edges.names]
    roots: list[int] = []
    for node, parent in enumerate(edges.parents):
        (roots if parent is None else children[parent]).append(node)
    if len(roots) > 1:
        shown = ", ".join(repr(edges.names[root]) for root in roots[:5])
        raise HierarchyError(
            f"there are {len(roots)} roots ({shown}{', ...' if len(roots) > 5 else ''}): nodes "
            "without a parent; give all but one a parent, or put a new node above them"
        )
    order = []
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += reversed(children[node])
    if len(order) < len(edges.names):
        raise HierarchyError(f"the nodes go round in a circle: {_cycle(edges, set(order))}")
    single = [node for node in order if len(children[node]) == 1]
    if single and not collapse_chains:
        name, child = edges.names[single[0]], edges.names[children[single[0]][0]]
        raise HierarchyError(
            f"the node {name!r} has one child, {child!r} (one of {len(single)} such nodes): it "
            "groups nothing, yet would raise the height of all nodes above; remove it, or use "
            "collapse_chains=True"
        )
    position = {node: index for index, node in enumerate(order)}
    ordered = OrderedNodes(
        names=tuple(edges.names[node] for node in order),
        parents=tuple(
            -1 if (parent := edges.parents[node]) is None else position[parent] for node in order
        ),
        heights=(0.0,) * len(order),
        # In the order in which the format lists them.
        leaves=tuple(position[node] for node in range(len(order)) if not children[node]),
    )
    if edges.heights is not None:
        return ordered._replace(heights=tuple(edges.heights[node] for node in order))
    if edges.lengths is None:
        ordered = without_chains(ordered)
        return ordered._replace(heights=_ways_down(ordered.parents, [1.0] * len(order)))
    lengths = [edges.lengths[node] for node in order]
    return without_chains(ordered._replace(heights=_ways_down(ordered.parents, lengths)))


def _ways_down(parents: tuple[int, ...], lengths: list[float]) -> tuple[float, ...]:
    """The longest way down from every node, with the length of the edge above each."""
    heights = [0.0] * len(parents)
    for node in range(len(parents) - 1, 0, -1):
        parent = parents[node]
        heights[parent] = max(heights[parent], heights[node] + lengths[node])
    return tuple(heights)


def _cycle(edges: Edges, reached: set[int]) -> str:
    node: int | None = next(n for n in range(len(edges.names)) if n not in reached)
    path: list[int] = []
    while node is not None and node not in path:
        path.append(node)
        node = edges.parents[node]
    assert node is not None
    circle = [*path[path.index(node) :], node]
    shown = circle if len(circle) <= 8 else [*circle[:7], circle[-1]]
    return " -> ".join(repr(edges.names[n]) for n in shown)


def without_chains(tree: OrderedNodes) -> OrderedNodes:
    """Replace every node that has one child by that child; heights stay."""
    children = [0] * len(tree.names)
    for parent in tree.parents[1:]:
        children[parent] += 1
    return _keep(tree, [count != 1 for count in children])


def without_other_leaves(tree: OrderedNodes) -> OrderedNodes:
    """Drop nodes that have none of the leaves below them; heights stay."""
    kept = [False] * len(tree.names)
    for leaf in tree.leaves:
        node = leaf
        while node != -1 and not kept[node]:
            kept[node] = True
            node = tree.parents[node]
    return _keep(tree, kept)


def _keep(tree: OrderedNodes, kept: list[bool]) -> OrderedNodes:
    nodes = [node for node, stays in enumerate(kept) if stays]
    position = {-1: -1} | {node: index for index, node in enumerate(nodes)}
    parents = []
    for node in nodes:
        parent = tree.parents[node]
        while parent not in position:
            parent = tree.parents[parent]
        parents.append(position[parent])
    return OrderedNodes(
        names=tuple(tree.names[node] for node in nodes),
        parents=tuple(parents),
        heights=tuple(tree.heights[node] for node in nodes),
        leaves=tuple(position[leaf] for leaf in tree.leaves),
    )
