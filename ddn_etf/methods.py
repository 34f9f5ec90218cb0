"""The methods that ``ddn-etf`` can train: a name, what it means, and how to build its head.

This is the one place where a head gets its name on the command line. All methods see features
normalised the same way, h = tau f / ||f||, and differ only in where the classifier comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from ddn_etf._names import find_named
from ddn_etf.data.registry import names_with_hierarchy
from ddn_etf.frames import orthogonal_frame, softmax_code
from ddn_etf.head_options import HeadOptions
from ddn_etf.heads import (
    FixedETFHead,
    FixedFrameHead,
    HAFrameHead,
    Head,
    LinearHead,
    NearestETFHead,
    NearestFrameHead,
    NearestHAFrameHead,
    NearestHead,
    WarmUpHead,
)

# ruff: noqa: RUF009 -- the options are frozen, so that one default serves all.

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "HeadSetting",
    "Method",
    "check_hierarchy",
    "find_method",
    "find_methods",
]


@dataclass(frozen=True, eq=False)
class HeadSetting:
    """Where a head is to stand.

    Attributes:
        dim: d, number of features.
        num_classes: K.
        temperature: tau, the length of the features that the head sees.
        distances: D (K, K), between the classes in their hierarchy; None if there is none.
        options: of a head that follows the class means.
    """

    dim: int
    num_classes: int
    temperature: float
    distances: Tensor | None = None
    options: HeadOptions = HeadOptions()


@dataclass(frozen=True)
class Method:
    """One way to get the last layer.

    Attributes:
        name: what the command line and the files call it.
        title: what tables and figures call it.
        description: one sentence for the report.
        make: setting -> head.
        needs_hierarchy: whether the classifier follows a hierarchy of the classes.
        follows_means: whether the classifier follows the class means, so that ``options`` apply.
        options: see :meth:`with_options`.
    """

    name: str
    title: str
    description: str
    make: Callable[[HeadSetting], Head]
    needs_hierarchy: bool = False
    follows_means: bool = False
    options: HeadOptions = HeadOptions()

    def with_options(self, options: HeadOptions) -> Method:
        """The same method with other options.

        Raises:
            ValueError: an option is not as by default, and the head follows no class means.
        """
        changed = options.changed()
        if changed and not self.follows_means:
            following = ", ".join(name for name, each in METHODS.items() if each.follows_means)
            raise ValueError(
                f"head {self.name!r} has no {changed[0]}: only heads that follow the class means do "
                f"({following})"
            )
        return replace(self, options=options)

    def build(
        self,
        dim: int,
        num_classes: int,
        temperature: float,
        *,
        distances: Tensor | None = None,
        steps_per_epoch: int | None = None,
    ) -> Head:
        """The head, untrained.

        Args:
            dim: d, number of features.
            num_classes: K.
            temperature: tau, the length of the features that the head sees.
            distances: D (K, K), between the classes, such as
                :attr:`ddn_etf.data.Dataset.class_distances`; ignored by heads that need none.
            steps_per_epoch: needed for a warm-up of some epochs.

        Raises:
            ValueError: the head follows a hierarchy, and there are no distances or not K of them; or
                there is a warm-up, and no number of steps.
            FrameSizeError: d is too small for that many classes.
        """
        if self.needs_hierarchy:
            if distances is None:
                raise ValueError(
                    f"head {self.name!r} follows a hierarchy of the classes: give distances "
                    f"({num_classes}, {num_classes}), for example those of a data set that has one "
                    f"({names_with_hierarchy()})"
                )
            if len(distances) != num_classes:
                raise ValueError(
                    f"head {self.name!r}: distances are between {len(distances)} classes, and there "
                    f"are {num_classes}; give one row and column per class"
                )
        head = self.make(HeadSetting(dim, num_classes, temperature, distances, self.options))
        if self.options.warm_up_epochs == 0:
            return head
        if steps_per_epoch is None:
            raise ValueError(
                f"head {self.name!r} has a warm-up of {self.options.warm_up_epochs} epochs: give "
                "steps_per_epoch"
            )
        assert isinstance(head, NearestHead)
        learned = LinearHead(dim, num_classes, temperature=temperature, unit_rows=True)
        return WarmUpHead(learned, head, self.options.warm_up_epochs * steps_per_epoch)


def _linear(at: HeadSetting) -> Head:
    return LinearHead(at.dim, at.num_classes, temperature=at.temperature, unit_rows=True)


def _fixed_etf(at: HeadSetting) -> Head:
    return FixedETFHead(at.dim, at.num_classes, temperature=at.temperature)


def _nearest_etf(at: HeadSetting) -> Head:
    return NearestETFHead(at.dim, at.num_classes, **at.options.of_head(at.temperature))


def _plain_linear(at: HeadSetting) -> Head:
    return LinearHead(at.dim, at.num_classes, temperature=at.temperature)


def _detached_nearest_etf(at: HeadSetting) -> Head:
    options = at.options.of_head(at.temperature)
    options["gradient_through_frame"] = False
    return NearestETFHead(at.dim, at.num_classes, **options)


def _orthogonal(at: HeadSetting) -> Head:
    return FixedFrameHead(orthogonal_frame(at.num_classes, at.dim), temperature=at.temperature)


def _nearest_orthogonal(at: HeadSetting) -> Head:
    frame = orthogonal_frame(at.num_classes, at.num_classes)
    return NearestFrameHead(frame, at.dim, **at.options.of_head(at.temperature))


def _softmax_code(at: HeadSetting) -> Head:
    return FixedFrameHead(softmax_code(at.num_classes, at.dim), temperature=at.temperature)


def _ha_frame(at: HeadSetting) -> Head:
    assert at.distances is not None
    return HAFrameHead(at.distances, at.dim, temperature=at.temperature)


def _nearest_ha_frame(at: HeadSetting) -> Head:
    assert at.distances is not None
    return NearestHAFrameHead(at.distances, at.dim, **at.options.of_head(at.temperature))


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="linear",
            title="learned",
            description=(
                "The standard method of Markou, Ajanthan and Gould (2024): the weight is learned "
                "by gradient descent and its rows are kept at unit length."
            ),
            make=_linear,
        ),
        Method(
            name="fixed-etf",
            title="fixed ETF",
            description=(
                "The weight is one simplex equiangular tight frame (ETF), chosen before training "
                "and never changed."
            ),
            make=_fixed_etf,
        ),
        Method(
            name="nearest-etf",
            title="nearest ETF",
            description=(
                "The weight is the simplex ETF nearest to the moving average of the class means, "
                "found anew in every step by a declarative node; the backbone also gets the "
                "gradient that passes through it."
            ),
            make=_nearest_etf,
            follows_means=True,
        ),
        Method(
            name="plain-linear",
            title="learned, any length",
            description=(
                "The weight is learned by gradient descent, as in torch.nn.Linear; its rows may have "
                "any length."
            ),
            make=_plain_linear,
        ),
        Method(
            name="nearest-etf-detached",
            title="nearest ETF, detached",
            description=(
                "As nearest-etf, but no gradient passes through the declarative node: the weight is "
                "a constant in each step."
            ),
            make=_detached_nearest_etf,
            follows_means=True,
        ),
        Method(
            name="orthogonal",
            title="orthogonal",
            description=(
                "The weight is one orthogonal frame, chosen before training: the minimum of the mean "
                "squared error without bias (Tirer and Bruna, 2022). Needs d >= K."
            ),
            make=_orthogonal,
        ),
        Method(
            name="nearest-orthogonal",
            title="nearest orthogonal",
            description=(
                "The weight is the orthogonal frame nearest to the moving average of the class "
                "means, found anew in every step by a declarative node. Needs d >= K."
            ),
            make=_nearest_orthogonal,
            follows_means=True,
        ),
        Method(
            name="softmax-code",
            title="softmax code",
            description=(
                "The weight is a softmax code (Jiang et al., 2023), chosen before training: the "
                "simplex ETF while d >= K - 1, and its generalisation for more classes."
            ),
            make=_softmax_code,
        ),
        Method(
            name="ha-frame",
            title="HAFrame",
            description=(
                "The weight is the hierarchy-aware frame of Liang and Davis (2023), chosen before "
                "training: the nearer two classes are in the hierarchy of the data set, the smaller "
                "the angle between their rows. Features are normalised here and there is no bias."
            ),
            make=_ha_frame,
            needs_hierarchy=True,
        ),
        Method(
            name="nearest-ha-frame",
            title="nearest HAFrame",
            description=(
                "The weight is the rotated copy of the hierarchy-aware frame that is nearest to the "
                "moving average of the class means, found anew in every step by a declarative node; "
                "b = -W\N{GREEK SMALL LETTER MU}, with the mean of all features."
            ),
            make=_nearest_ha_frame,
            needs_hierarchy=True,
            follows_means=True,
        ),
    )
}
"""Every method by name."""

DEFAULT_METHODS: tuple[Method, ...] = tuple(
    METHODS[name] for name in ("linear", "fixed-etf", "nearest-etf")
)
"""The three that Markou, Ajanthan and Gould (2024) compare."""


def find_method(name: str) -> Method:
    """Look up one method.

    Raises:
        ValueError: the name is not known; the message has the nearest one and all that are.
    """
    return find_named("head", name, METHODS, "known heads")


def find_methods(names: Iterable[str]) -> tuple[Method, ...]:
    """Look up several methods, in the order given.

    Raises:
        ValueError: no name, an unknown name, or a name given twice.
    """
    methods = tuple(find_method(name) for name in names)
    if not methods:
        raise ValueError(f"no head given; known heads: {', '.join(METHODS)}")
    found = [method.name for method in methods]
    for name in found:
        if found.count(name) > 1:
            raise ValueError(f"head {name!r} is given {found.count(name)} times; give it once")
    return methods


def check_hierarchy(methods: Iterable[Method], dataset: str, *, has_hierarchy: bool) -> None:
    """Check that a data set has the hierarchy that some heads need.

    Args:
        methods: the heads.
        dataset: its name, for the message.
        has_hierarchy: whether it has one.

    Raises:
        ValueError: a head needs a hierarchy and the data set has none; names the sets that have one.
    """
    for method in methods:
        if method.needs_hierarchy and not has_hierarchy:
            raise ValueError(
                f"head {method.name!r} follows a hierarchy of the classes, and the data set "
                f"{dataset!r} has none; data sets with one: {names_with_hierarchy()}"
            )
