"""Trees in the Newick format, the plain text format of phylogenetics."""

from __future__ import annotations

import math
import re
from typing import NoReturn

from ddn_etf.hierarchy.edges import Edges
from ddn_etf.hierarchy.errors import HierarchyError

__all__ = ["edges_of_newick"]

_TOKEN = re.compile(
    r"""\s+ | \[[^\]]*\]                   # blanks and comments
    | (?P<punctuation>[(),:;])
    | '(?P<quoted>(?:[^']|'')*)'
    | (?P<bare>[^\s()\[\]':;,]+)
    | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)


# Unlike float(): no underscores between digits, no "infinity", no digits of other scripts.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def edges_of_newick(text: str) -> Edges:
    """Parse one tree, for example ``((cat:1,dog:1)pet:2,car:3);``.

    Labels may be in single quotes, with a quote doubled inside them; comments in square brackets
    are skipped; underscores stay as they are; inner nodes need no label. A length at the root is
    ignored.

    Lengths are decimal numbers such as ``1``, ``.5`` or ``2.5e-3``. A length of 0 is one: it puts a
    node at the place of its parent.

    Raises:
        TypeError: not a text.
        HierarchyError: not a tree in this format, an edge length that is not a number of at least
            0, or lengths at some edges but not at all; names the position.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text in the Newick format is needed, found {type(text).__name__}")
    parser = _Parser(text)
    for match in _TOKEN.finditer(text):
        if match.lastgroup is not None:
            parser.read(match.lastgroup, match.group(match.lastgroup), match.start())
    return parser.finish()


class _Parser:
    """A pushdown automaton; ``node`` is the one that a label or length would belong to."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names = [""]
        self.parents: list[int | None] = [None]
        self.lengths: list[float | None] = [None]
        self.node = 0
        self.expects_length = False
        # Whether the node may still open its list of children, or has had a label or a list.
        self.is_fresh = True
        self.is_labelled = False
        self.is_finished = False

    def read(self, kind: str, value: str, position: int) -> None:
        if self.is_finished:
            self.fail("there is more after the semicolon; give one tree at a time", position)
        if kind == "bad":
            self.fail(f"the character {value!r} is out of place", position)
        if self.expects_length:
            self.read_length(kind, value, position)
        elif kind in {"quoted", "bare"}:
            if self.is_labelled:
                self.fail(
                    f"the node {self.names[self.node]!r} has a second label {value!r}: put labels "
                    "with blanks in single quotes, and a comma between nodes",
                    position,
                )
            self.names[self.node] = value.replace("''", "'") if kind == "quoted" else value
            self.is_fresh, self.is_labelled = False, True
        elif value == "(":
            if not self.is_fresh:
                self.fail("a list of children must come first in its node", position)
            self.add_child(self.node)
        elif value == ":":
            if self.lengths[self.node] is not None:
                self.fail("a second length for one edge", position)
            self.expects_length = True
        elif value == ";":
            if self.parents[self.node] is not None:
                self.fail("the tree ends before all parentheses are closed", position)
            self.is_finished = True
        else:
            self.leave(value, position)

    def read_length(self, kind: str, value: str, position: int) -> None:
        is_number = kind == "bare" and _NUMBER.fullmatch(value)
        length = float(value) if is_number else math.nan
        if not 0 <= length < math.inf:
            self.fail(f"an edge length must be a number of at least 0, found {value!r}", position)
        self.lengths[self.node] = length
        self.expects_length = self.is_fresh = False
        self.is_labelled = True

    def leave(self, value: str, position: int) -> None:
        parent = self.parents[self.node]
        if parent is None:
            self.fail(f"{value!r} outside of all parentheses", position)
        if value == ",":
            self.add_child(parent)
        else:
            self.node, self.is_fresh, self.is_labelled = parent, False, False

    def add_child(self, parent: int) -> None:
        self.node = len(self.names)
        self.names.append("")
        self.parents.append(parent)
        self.lengths.append(None)
        self.is_fresh, self.is_labelled = True, False

    def finish(self) -> Edges:
        if not self.is_finished:
            self.fail("the tree does not end with a semicolon", len(self.text))
        below_root = [length for length in self.lengths[1:] if length is not None]
        lengths = None
        if below_root:
            if None in self.lengths[1:]:
                node = self.lengths.index(None, 1)
                raise HierarchyError(
                    f"Newick: some edges have a length and others, such as that of node "
                    f"{self.names[node]!r}, have none; give all or none"
                )
            lengths = (0.0, *below_root)
        return Edges(tuple(self.names), tuple(self.parents), lengths)

    def fail(self, reason: str, position: int) -> NoReturn:
        shown = self.text[max(0, position - 20) : position]
        raise HierarchyError(
            f"Newick, position {position}: {reason} (after {shown!r}); a tree looks like "
            "((cat,dog)pet,car);"
        )
