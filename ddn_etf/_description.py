"""What an object is, in words that are the same in another process: the identity of a run.

``repr`` does not serve: it has addresses of memory, leaves out the middle of large tensors, and says
nothing of the attributes of most modules.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["describe", "describe_modules", "digest"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LENGTH = 16
_OF_MODULES = frozenset(vars(nn.Module()))


def describe(value: Any) -> str:
    """One line for a value; equal values have equal lines, in this process and in another.

    Plain values, containers and dataclasses look as in ``repr``, but for numbers of more than twelve
    digits. A tensor is its shape, its largest entry and a digest of its entries to six digits of that:
    the rounding of another machine makes no difference. A function is its name with a digest of its
    code (which may differ between versions of Python) and with what it encloses; any other object is
    its type and its public attributes, unless it has a ``repr`` of its own.
    """
    return _describe(value, ())


def describe_modules(module: nn.Module) -> str:
    """One line for every module of a network: path, type, and public attributes.

    What is in the state dict is left out.
    """
    lines = []
    for path, each in module.named_modules():
        found = {
            name: value
            for name, value in vars(each).items()
            if name not in _OF_MODULES and not name.startswith("_")
        }
        lines.append(f"{path or 'module'}: {type(each).__qualname__}({_named(found, ())})")
    return "\n".join(lines)


def digest(parts: Iterable[Tensor]) -> str:
    """The first digits of the SHA-256 of all bytes; 0.5 s for 50000 inputs (3, 32, 32) in float32."""
    found = hashlib.sha256()
    for part in parts:
        content = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(content.numpy().data)
    return found.hexdigest()[:_LENGTH]


def _describe(value: Any, above: tuple[int, ...]) -> str:
    if id(value) in above:
        return "..."
    inside = (*above, id(value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, Mapping):
        items = (f"{_describe(k, inside)}: {_describe(v, inside)}" for k, v in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(_describe(each, inside) for each in value))}}}"
    if isinstance(value, (list, tuple)):
        parts = ", ".join(_describe(each, inside) for each in value)
        comma = "," if len(value) == 1 else ""
        return f"({parts}{comma})" if isinstance(value, tuple) else f"[{parts}]"
    if isinstance(value, float):
        return repr(float(f"{value:.12g}"))
    return _object(value, inside)


def _object(value: Any, inside: tuple[int, ...]) -> str:
    kind = type(value)
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, FunctionType):
        return _function(value, inside)
    if isinstance(value, functools.partial):
        parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
        return f"partial({_named(parts, inside)})"
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, nn.Module):
        return f"{describe_modules(value)} {_describe(value.state_dict(), inside)}".replace(
            "\n", " "
        )
    elif not any("__repr__" in vars(each) for each in kind.__mro__[:-1]):
        parts = {n: v for n, v in getattr(value, "__dict__", {}).items() if n[0] != "_"}
    else:
        return _ADDRESS.sub("", repr(value))
    return f"{kind.__qualname__}({_named(parts, inside)})"


def _named(parts: Mapping[str, Any], inside: tuple[int, ...]) -> str:
    return ", ".join(f"{name}={_describe(value, inside)}" for name, value in parts.items())


def _tensor(value: Tensor) -> str:
    kind = str(value.dtype).removeprefix("torch.")
    entries = value.detach().cpu()
    largest = ""
    if value.is_floating_point() and value.numel():
        entries = entries.double()
        scale = entries.abs().max().item()
        largest = f", largest {scale:.6g}"
        # Adding zero makes -0 a 0.
        entries = (entries / (scale or 1.0)).mul(1e6).round() + 0.0
    return f"tensor({tuple(value.shape)}, {kind}{largest}, {digest([entries])})"


def _function(value: FunctionType, inside: tuple[int, ...]) -> str:
    enclosed = {
        "defaults": value.__defaults__,
        "keywords": value.__kwdefaults__,
        "enclosed": tuple(cell.cell_contents for cell in value.__closure__ or ()),
    }
    known = {name: part for name, part in enclosed.items() if part}
    inner = _named(known, inside)
    code = hashlib.sha256(_code(value.__code__).encode()).hexdigest()[:_LENGTH]
    return f"{value.__qualname__}({', '.join(filter(None, (code, inner)))})"


def _code(code: CodeType) -> str:
    """What a function does, without file and line numbers."""
    constants = [
        _code(each) if isinstance(each, CodeType) else _describe(each, ())
        for each in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
