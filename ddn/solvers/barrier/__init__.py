"""The parts of :class:`ddn.solvers.InteriorPoint`, one idea per module."""

__all__: list[str] = []
