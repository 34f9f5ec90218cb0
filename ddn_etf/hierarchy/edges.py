"""A tree as every format describes it: nodes with names, and who is whose parent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ddn_etf.hierarchy.errors import HierarchyError

__all__ = ["Edges", "edges_of_mapping", "edges_of_parents", "edges_of_paths"]


@dataclass(frozen=True)
class Edges:
    """Nodes in any order, not checked yet.

    Attributes:
        names: of the nodes; "" for a node without a name.
        parents: index of the parent, None for a root.
        lengths: of the edge to the parent, or None where every edge counts 1.
        heights: of the nodes above the leaves, where they are known already.
    """

    names: tuple[str, ...]
    parents: tuple[int | None, ...]
    lengths: tuple[float, ...] | None = None
    heights: tuple[float, ...] | None = None


def edges_of_mapping(tree: Mapping[str, object]) -> Edges:
    """Nested mappings: the name of a node to its children.

    The children are a mapping again, or a sequence of names and mappings; ``None`` and what is
    empty stand for a leaf. A mapping with one key at the top is a tree with a named root; with
    several keys these are the children of a root called ``"root"``.

    Raises:
        TypeError: something else than mappings, sequences and names.
        HierarchyError: an empty mapping.
    """
    if not isinstance(tree, Mapping):
        raise TypeError(f"a nested mapping of names is needed, found {type(tree).__name__}")
    if not tree:
        raise HierarchyError("the mapping is empty: a hierarchy needs at least two leaves")
    names: list[str] = []
    parents: list[int | None] = []
    # (name, children, parent) still to be visited; a stack, for trees deeper than Python's own.
    waiting: list[tuple[object, object, int | None]]
    waiting = [(*next(iter(tree.items())), None)] if len(tree) == 1 else [("root", tree, None)]
    while waiting:
        name, children, parent = waiting.pop()
        if not isinstance(name, str):
            raise TypeError(f"names of classes and groups must be strings, found {name!r}")
        index = len(names)
        names.append(name)
        parents.append(parent)
        waiting += [(*child, index) for child in reversed(list(_children(name, children)))]
    return Edges(tuple(names), tuple(parents))


def _children(name: str, children: object) -> Iterable[tuple[object, object]]:
    if children is None:
        return
    if isinstance(children, Mapping):
        yield from children.items()
    elif isinstance(children, Sequence) and not isinstance(children, str):
        for child in children:
            if isinstance(child, Mapping):
                yield from child.items()
            else:
                yield child, None
    else:
        raise TypeError(
            f"the children of {name!r} must be a mapping or a sequence of names, found {children!r}"
        )


def edges_of_parents(parents: Mapping[str, str | None]) -> Edges:
    """Child to parent, as a lexical database lists hypernyms; the root has None or is no key.

    Raises:
        TypeError: not a mapping of names to names.
    """
    if not isinstance(parents, Mapping):
        raise TypeError(f"a mapping of child to parent is needed, found {type(parents).__name__}")
    for child, parent in parents.items():
        if not isinstance(child, str) or not (parent is None or isinstance(parent, str)):
            raise TypeError(f"names must be strings, found {child!r}: {parent!r}")
    # The keys first: leaves are always keys, and their order is the order of the classes.
    above = (parent for parent in parents.values() if parent is not None)
    names = list(dict.fromkeys((*parents, *above)))
    index = {name: position for position, name in enumerate(names)}
    return Edges(
        tuple(names),
        tuple(None if (parent := parents.get(name)) is None else index[parent] for name in names),
    )


def edges_of_paths(paths: Iterable[Sequence[str]]) -> Edges:
    """One path of names from the root to each leaf, such as NLTK's ``synset.hypernym_paths()``.

    Raises:
        TypeError: a path that is not a sequence of names.
        HierarchyError: no paths, an empty one, one path twice, one that ends at an inner node, or
            a node with two parents.
    """
    leaves: dict[str, int] = {}
    parents: dict[str, str | None] = {}
    if isinstance(paths, str) or not isinstance(paths, Iterable):
        raise TypeError(f"paths must be a sequence of paths, one per class, found {paths!r}")
    for number, path in enumerate(paths):
        if (
            isinstance(path, str)
            or not isinstance(path, Sequence)
            or not all(isinstance(name, str) for name in path)
        ):
            raise TypeError(
                f"path {number} must be a sequence of names from the root to a class, found "
                f"{path!r}; split a text with .split('/'), say"
            )
        if not path:
            raise HierarchyError(f"path {number} is empty")
        if path[-1] in leaves:
            raise HierarchyError(
                f"paths {leaves[path[-1]]} and {number} both lead to {path[-1]!r}: give one path "
                "for each class"
            )
        leaves[path[-1]] = number
        for parent, name in zip((None, *path[:-1]), path, strict=True):
            known = parents.setdefault(name, parent)
            if known != parent:
                raise HierarchyError(
                    f"{name!r} has the two parents {known!r} and {parent!r} (path {number}): in a "
                    "tree there is one; choose one path for each class, or give groups of the same "
                    "name different names"
                )
    inner = set(parents.values())
    for name, number in leaves.items():
        if name in inner:
            raise HierarchyError(
                f"path {number} ends at {name!r}, which other paths pass through: a class must be "
                "a leaf; give it a leaf of its own below that node"
            )
    ordered = {name: parents[name] for name in leaves}
    return edges_of_parents(ordered | parents)
