"""Quadratic programs: problems whose derivatives are matrices that are known in advance."""

from ddn.quadratic.data import QuadraticData

__all__ = ["QuadraticData"]
