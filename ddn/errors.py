"""What can go wrong, by name.

Every message states the fact, the cause and the remedy, and names the elements of the batch that
are concerned.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "DeclarativeNodeError",
    "DerivativeError",
    "DtypeError",
    "MissingDependencyError",
    "ShapeError",
    "SignatureError",
    "SingularSystemError",
    "SolveError",
    "SolveWarning",
    "UndeclaredTensorError",
    "explain_failure",
]


class DeclarativeNodeError(Exception):
    """Base of all errors raised by ``ddn`` and ``ddn_etf``."""


class SignatureError(DeclarativeNodeError, ValueError):
    """A signature that cannot be parsed, or that does not fit the problem's functions."""


class ShapeError(DeclarativeNodeError, ValueError):
    """A tensor whose shape does not fit its term of the signature."""


class DtypeError(DeclarativeNodeError, TypeError):
    """A value that is not a real floating-point tensor, or dtypes or devices that do not agree."""


class UndeclaredTensorError(DeclarativeNodeError, RuntimeError):
    """The problem depends on a tensor that requires grad but is neither input nor parameter."""


class DerivativeError(DeclarativeNodeError, RuntimeError):
    """A derivative that the chosen gradient does not have."""


class MissingDependencyError(DeclarativeNodeError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f'{purpose} needs the package {package!r}: run  pip install "ddn-torch[{extra}]"'
        )


class SolveError(DeclarativeNodeError, RuntimeError):
    """Some problems of a batch were not solved.

    Attributes:
        indices: batch index of every failed problem, as tuples.
    """

    def __init__(self, message: str, indices: Sequence[tuple[int, ...]] = ()) -> None:
        super().__init__(message)
        self.indices = list(indices)


class SingularSystemError(SolveError):
    """The KKT system of some problems is singular and the gradient asked for is not defined."""


def explain_failure(error: Exception, node: object, name: str, arguments: Sequence[object]) -> None:
    """Add to an exception of a user's function how that function is called."""
    note = (
        f"Raised in {type(node).__name__}.{name}, which the library calls with {len(arguments)} argument(s) "
        "(the inputs in the order of the signature, then what belongs to the function)"
    )
    if name not in ("solve", "solve_and_save", "vjp"):
        note += (
            ", for ONE problem without batch dimensions, mapped by torch.func.vmap: no `if` on values (use "
            "torch.where), no .item(), no NumPy, and constants in the dtype of the inputs"
        )
    if not any(earlier == note + "." for earlier in getattr(error, "__notes__", ())):
        error.add_note(note + ".")


class SolveWarning(UserWarning):
    """Issued in place of :class:`SolveError` by a node with ``on_failure="warn"``.

    Also where the derivative of a :class:`ddn.CvxpyNode` may be inaccurate.
    """
