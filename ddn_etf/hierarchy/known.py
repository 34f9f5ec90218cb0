"""Hierarchies of well-known sets of classes, and regular ones."""

from __future__ import annotations

from collections.abc import Sequence

from ddn_etf.hierarchy.errors import HierarchyError
from ddn_etf.hierarchy.tree import Hierarchy
from ddn_etf.validation import check_count

__all__ = ["balanced_hierarchy", "cifar100_superclasses", "digit_shapes"]

# Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), with the class names of
# the data files.
_CIFAR100 = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}

_DIGITS = {
    "loops": ("0", "6", "8", "9"),
    "open curves": ("2", "3", "5"),
    "strokes": ("1", "4", "7"),
}


def cifar100_superclasses() -> Hierarchy:
    """CIFAR-100: 20 superclasses of 5 classes each; distances 1 within one and 2 across.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). The classes are
    numbered in alphabetical order, as the fine labels of the data files are. Other work puts more
    levels above the superclasses, which are not part of the data set.
    """
    hierarchy = Hierarchy.from_mapping(_CIFAR100)
    return hierarchy.select(sorted(hierarchy.leaf_names))


def digit_shapes() -> Hierarchy:
    """The digits 0 to 9 by shape: loops 0 6 8 9, open curves 2 3 5, straight strokes 1 4 7.

    The grouping is this library's own, made to have a small hierarchy on real images; no source
    has it.
    """
    return Hierarchy.from_mapping(_DIGITS).select([str(digit) for digit in range(10)])


def balanced_hierarchy(branching: Sequence[int]) -> Hierarchy:
    """A tree in which all nodes of one level have equally many children.

    Args:
        branching: children of a node at each level from the root down, each >= 2; their product is
            the number of classes.

    Returns:
        With leaves named by their path, "0.2.1" for the second child of the third of the first.

    Raises:
        HierarchyError: no level.
        TypeError: no sequence, or a number of children that is not an integer.
        ValueError: a number of children below 2.
    """
    if not isinstance(branching, Sequence):
        raise TypeError(
            f"branching must be a sequence such as (4, 4), one number per level, found {branching!r}"
        )
    if not branching:
        raise HierarchyError("branching is empty: give the number of children at each level")
    for level, count in enumerate(branching):
        check_count(f"branching[{level}]", count, 2)
    parents: dict[str, str | None] = {}
    above = [""]
    for count in branching:
        level_names = []
        for parent in above:
            for child in range(count):
                name = f"{parent}.{child}" if parent else str(child)
                parents[name] = parent or "root"
                level_names.append(name)
        above = level_names
    return Hierarchy.from_parents(parents)
