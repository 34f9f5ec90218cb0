"""A build warns of every module and every public name that the reference leaves out."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

__all__ = ["setup"]

logger = logging.getLogger(__name__)


def _check(app: Sphinx, env: BuildEnvironment) -> None:
    domain = env.domains.python_domain
    documented = {id(_resolve(name)) for name in (*domain.modules, *domain.objects)}
    for module in _modules(app.config.complete_reference_packages):
        if module.__name__ not in domain.modules:
            logger.warning("the reference has no page for the module %s", module.__name__)
        for name in module.__all__:
            if id(getattr(module, name)) not in documented:
                logger.warning("the reference leaves out %s.%s", module.__name__, name)


def _modules(packages: list[str]) -> Iterator[ModuleType]:
    """All modules of the packages but those whose name starts with an underscore."""
    for package in map(importlib.import_module, packages):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not any(part.startswith("_") for part in found.name.split(".")):
                yield importlib.import_module(found.name)


def _resolve(name: str) -> Any:
    """The object with a dotted name; None for what only a class can show, such as a field."""
    try:
        return pkgutil.resolve_name(name)
    except AttributeError:
        return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the option ``complete_reference_packages``, a list of names."""
    app.add_config_value("complete_reference_packages", [], "env", [list])
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
