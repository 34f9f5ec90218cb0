"""Numbers by which compiled graphs name nodes, and what a solve has kept for its derivative."""

from __future__ import annotations

import secrets
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from ddn.captured import PlainAttributes
from ddn.errors import DeclarativeNodeError
from ddn.functional import eager

if TYPE_CHECKING:
    from ddn.node import DeclarativeNode

__all__ = ["find", "identify", "issue", "redeem"]

_nodes: WeakValueDictionary[int, DeclarativeNode] = WeakValueDictionary()
# Numbers of one process mean nothing in another one, and must not be mistaken there.
_numbers = count(secrets.randbits(62))


@eager
def identify(node: DeclarativeNode) -> Tensor:
    """A number for the node, by which compiled graphs call it."""
    number = next(_numbers)
    _nodes[number] = node
    with torch.inference_mode(False):
        return torch.tensor(number, device="cpu")


def find(identity: Tensor) -> DeclarativeNode:
    """The node of a number.

    Raises:
        DeclarativeNodeError: it does not exist in this process.
    """
    node = _nodes.get(int(identity))
    if node is None:
        raise DeclarativeNodeError(
            "A compiled graph calls a node that does not exist in this process (any more). Graphs with "
            "declarative nodes work only in the process that compiled them, as long as their nodes live: "
            "compile again."
        )
    return node


class _Ticket(bytearray):
    """Memory of a tensor, which holds a number and owns what that number stands for."""

    kept: tuple[Tensor, ...]
    node: DeclarativeNode
    attributes: PlainAttributes


_tickets: WeakValueDictionary[int, _Ticket] = WeakValueDictionary()
_ticket_numbers = count()


def issue(node: DeclarativeNode, kept: tuple[Tensor, ...]) -> Tensor:
    """A ticket for what a solve has kept: a tensor whose memory owns it, and the node."""
    number = next(_ticket_numbers)
    ticket = _Ticket(number.to_bytes(8, "little"))
    # The derivative needs the node, which nobody else may hold any more by then.
    ticket.node, ticket.kept, ticket.attributes = node, kept, PlainAttributes.of(node)
    _tickets[number] = ticket
    # The tensor's memory is the bytes themselves: they live as long as it does.
    return torch.frombuffer(ticket, dtype=torch.int64)


def redeem(
    identity: Tensor, ticket: Tensor
) -> tuple[DeclarativeNode, PlainAttributes, tuple[Tensor, ...] | None]:
    """The node, its attributes when it was solved, and what was kept; None for that if it is lost."""
    issued = _tickets.get(int(ticket))
    if issued is None:
        node = find(identity)
        return node, PlainAttributes.of(node), None
    return issued.node, issued.attributes, issued.kept
