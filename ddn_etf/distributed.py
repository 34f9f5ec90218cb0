"""Class means over the processes of a distributed run, with the right gradient.

Under ``torch.nn.parallel.DistributedDataParallel`` each of R processes (ranks) has N_r of the
N = Σ_r N_r samples of a step. A sum over all samples, S = Σ_r S_r, is found by one all-reduce. Every
rank then computes its own loss L_r from its own samples *and* from S. What is minimized is
L = (1/R) Σ_r L_r: that is the loss whose gradient DDP takes, since it averages over ranks,

    (1/R) Σ_s [∂/∂θ_s Σ_r L_r],   θ_s the copy of the parameters on rank s.

The sum over r inside the bracket is what rank s has to contribute. Of L_s, its own backward pass
knows; what the losses of the *other* ranks say about S_s it learns from

    ∂(Σ_r L_r)/∂S_s = Σ_r ∂L_r/∂S,

one all-reduce of the cotangents: the derivative of a sum over ranks is a sum over ranks. With that,
frame, means, loss and gradients are those of one process that has all samples.

Where batches differ in size, the mean of the ranks' mean losses is not the mean over all samples.
Multiply each rank's loss by :func:`batch_share`, R N_r/N.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from ddn.errors import DeclarativeNodeError

__all__ = ["RankError", "batch_share", "fail_together", "is_distributed", "sum_over_ranks"]


class RankError(DeclarativeNodeError, RuntimeError):
    """Another process of a distributed run was given a batch that it cannot use."""


def is_distributed() -> bool:
    """Whether there is a process group of two or more ranks."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Σ_r S_r of a tensor that has the same shape on every rank; the tensor itself on a single one.

    Differentiable to any order: the cotangents are summed over ranks as well. So each rank has to
    take the backward pass, as with every layer under ``DistributedDataParallel``.
    """
    if not is_distributed():
        return tensor
    total: Tensor = _SumOverRanks.apply(tensor)
    return total


class _SumOverRanks(torch.autograd.Function):
    """An all-reduce whose derivative is an all-reduce."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        return sum_over_ranks(cotangent)


def batch_share(samples: int, device: torch.device | str | None = None) -> float:
    """R N_r/N, the factor that makes the average of the ranks' mean losses that of all samples.

    It is 1 where all batches have the same size, and on a single process. All ranks have to call
    it.

    Args:
        samples: N_r, the number of samples on this rank.
        device: where the backend of the process group reduces; ``"cuda"`` for NCCL.
    """
    if not is_distributed():
        return 1.0
    total = torch.tensor([float(samples)], dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return distributed.get_world_size() * samples / total.item()


def fail_together(error: Exception | None, device: torch.device) -> None:
    """Raise on every rank if one of them has an error, so that none waits for another in vain.

    All ranks have to call it, at the same point. On a single process only the own error counts.

    Raises:
        Exception: ``error``, on the rank that has it.
        RankError: on the others; it names the ranks that failed.
    """
    if is_distributed():
        failed = torch.zeros(distributed.get_world_size(), device=device)
        failed[distributed.get_rank()] = float(error is not None)
        distributed.all_reduce(failed)
        ranks = failed.nonzero().flatten().tolist()
        if ranks and error is None:
            raise RankError(
                f"rank {', '.join(map(str, ranks))} was given a batch that it cannot use, so no "
                f"rank can take this step; the error that it raised says why"
            )
    if error is not None:
        raise error
