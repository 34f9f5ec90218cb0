"""The parts of :class:`ddn.solvers.ScipyMinimize`: SciPy's methods, and one problem in their terms."""

__all__: list[str] = []
