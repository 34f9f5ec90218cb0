from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ddn_etf.hierarchy import Hierarchy, HierarchyError, class_cosines
from tests.ddn_etf.hierarchy.cases import (
    BALANCED,
    UNEVEN,
    definition_of_distances,
    mappings,
    random_tree,
)


def test_distances_are_heights_of_common_ancestors():
    D = Hierarchy.from_mapping(BALANCED).distances
    assert D.tolist() == [[0, 1, 2, 2], [1, 0, 2, 2], [2, 2, 0, 1], [2, 2, 1, 0]]
    uneven = Hierarchy.from_mapping(UNEVEN)
    assert uneven.leaf_names == ("far", "b1", "b2", "b3", "x", "y", "a2")
    assert uneven.height == 4
    assert uneven.distances[0].tolist() == [0, 4, 4, 4, 4, 4, 4]
    assert uneven.distances[4].tolist() == [4, 3, 3, 3, 0, 1, 2]


@given(mappings())
def test_distances_agree_with_the_definition(mapping):
    hierarchy = Hierarchy.from_mapping(mapping)
    D = hierarchy.distances
    assert torch.equal(D, definition_of_distances(hierarchy))
    assert (torch.maximum(D.unsqueeze(1), D.unsqueeze(0)).amin(dim=2) >= D).all()


@given(mappings())
def test_every_format_gives_the_same_tree(mapping):
    hierarchy = Hierarchy.from_mapping(mapping)
    D, names = hierarchy.distances, hierarchy.leaf_names
    parents = {
        hierarchy.names[node]: hierarchy.names[parent]
        for node, parent in enumerate(hierarchy.parents)
        if parent != -1
    }

    def path(name):
        return ([*path(parents[name]), name]) if name in parents else [name]

    def newick(name):
        below = [child for child, parent in parents.items() if parent == name]
        return f"({','.join(map(newick, below))}){name}" if below else name

    others = [
        Hierarchy.from_parents(parents),
        Hierarchy.from_parents({hierarchy.names[0]: None} | parents),
        Hierarchy.from_paths([path(name) for name in names]),
        Hierarchy.from_newick(newick(hierarchy.names[0]) + ";"),
        Hierarchy.from_distances(D, names),
        Hierarchy.from_distances(D.numpy(), names, linkage="complete"),
        copy.deepcopy(hierarchy),
        pickle.loads(pickle.dumps(hierarchy)),
    ]
    for other in others:
        assert other.leaf_names == names
        assert torch.equal(other.distances, D)
        assert len(other.names) == len(hierarchy.names)


@given(mappings(), st.randoms(use_true_random=False))
def test_selection_keeps_distances(mapping, random):
    hierarchy = Hierarchy.from_mapping(mapping)
    names = random.sample(hierarchy.leaf_names, random.randint(2, hierarchy.num_classes))
    index = torch.tensor([hierarchy.leaf_names.index(name) for name in names])
    chosen = hierarchy.select(names)
    assert chosen.leaf_names == tuple(names)
    assert torch.equal(chosen.distances, hierarchy.distances[index][:, index])
    # Nothing is left that groups nothing.
    assert min(len(below) for below in chosen.children() if below) >= 2


def test_random_trees_of_many_classes():
    hierarchy = Hierarchy.from_parents(random_tree(150))
    assert torch.equal(hierarchy.distances, definition_of_distances(hierarchy))
    assert hierarchy.leaf_names == tuple(f"leaf{k}" for k in range(150))


def test_a_tree_deeper_than_the_recursion_limit():
    depth = 3000
    parents = {f"n{k}": f"n{k - 1}" for k in range(1, depth)}
    parents |= {f"leaf{k}": f"n{k}" for k in range(depth)} | {"last": f"n{depth - 1}"}
    hierarchy = Hierarchy.from_parents(parents)
    assert hierarchy.height == depth
    assert hierarchy.select(["leaf0", "last"]).distances[0, 1] == depth
    assert len(str(hierarchy).splitlines()) == 2 * depth + 1
    nested = None
    for k in range(2000):
        nested = {f"a{k}": None, f"b{k}": nested}
    assert Hierarchy.from_mapping(nested).height == 2000
    text = "(" * 2000 + "x" + "".join(f",y{k})" for k in range(2000)) + ";"
    assert Hierarchy.from_newick(text).height == 2000


def test_one_class_per_row_of_a_thousand():
    D = np.full((1000, 1000), 2.0)
    for group in range(100):
        D[10 * group : 10 * group + 10, 10 * group : 10 * group + 10] = 1.0
    np.fill_diagonal(D, 0)
    order = np.random.default_rng(0).permutation(1000)
    D = D[order][:, order]
    hierarchy = Hierarchy.from_distances(D)
    assert np.array_equal(hierarchy.distances.numpy(), D)
    assert len(hierarchy.names) == 1101


class TestNewick:
    def test_edge_lengths(self):
        hierarchy = Hierarchy.from_newick("((a:1,b:1)pet:2.5,(c:2,d:2):1.5);")
        D = hierarchy.distances
        assert D[0].tolist() == [0, 1, 3.5, 3.5]
        assert D[2, 3] == 2
        flat = Hierarchy.from_newick("((a:1,b:1)pet:2.5,(c:2,d:2):1.5);", edge_lengths=False)
        assert flat.distances[0].tolist() == [0, 1, 2, 2]

    def test_leaves_at_unequal_depth(self):
        D = Hierarchy.from_newick("((a:1,b:3):1,c:1);").distances
        assert D.tolist() == [[0, 3, 4], [3, 0, 4], [4, 4, 0]]

    def test_labels_comments_and_blanks(self):
        text = " ( 'it''s (one)' :1e0 , [a comment, with ;] two_words:1 ) 'the root' : 7 ;\n"
        hierarchy = Hierarchy.from_newick(text)
        assert hierarchy.leaf_names == ("it's (one)", "two_words")
        assert hierarchy.names[0] == "the root"
        assert hierarchy.height == 1

    def test_chains_add_their_lengths(self):
        text = "(((a:1,b:1):1)chain:2,c:1);"
        with pytest.raises(HierarchyError, match=r"'chain' has one child"):
            Hierarchy.from_newick(text)
        D = Hierarchy.from_newick(text, collapse_chains=True).distances
        assert D[0].tolist() == [0, 1, 4]
        D = Hierarchy.from_newick(text, collapse_chains=True, edge_lengths=False).distances
        assert D[0].tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("(a,b)", "does not end with a semicolon"),
            ("((a,b);", "ends before all parentheses are closed"),
            ("(a,b));", "outside of all parentheses"),
            ("(a,b);(c,d);", "more after the semicolon"),
            ("(a b,c);", "second label 'b'"),
            ("(a(b,c),d);", "must come first"),
            ("(a:x,b:1);", "an edge length must be a number of at least 0, found 'x'"),
            ("(a:-1,b:1);", "found '-1'"),
            ("(a:nan,b:1);", "found 'nan'"),
            ("(a:1_0,b:1);", "found '1_0'"),
            ("(a:1e5_0,b:1);", "found '1e5_0'"),
            ("(a:infinity,b:1);", "found 'infinity'"),
            ("(a:\u0661,b:1);", "found '\u0661'"),
            ("(a:0x10,b:1);", "found '0x10'"),
            ("(a:.,b:1);", r"found '\.'"),
            ("(a:1e999,b:1);", "found '1e999'"),
            ("(a:'1',b:1);", "found '1'"),
            ("(a:1e308,(b:1e308,c:1):1e308);", "height inf"),
            ("((a:0,b:0)ab:1,c:1);", "'ab' above 'a' has height 0"),
            ("(a:0,b:0);", "'' above 'a' has height 0.*edge_lengths=False"),
            ("(a:,b:1);", "found ','"),
            ("(a:1:2,b:1);", "second length"),
            ("(a:1,b);", "such as that of node 'b', have none"),
            ("(a,'b);", "out of place"),
            ("(a,);", "a leaf has no name"),
            ("();", "has one child"),
            ("", "does not end with a semicolon"),
            ("a;", "at least two leaves, found 1"),
        ],
    )
    def test_what_is_no_tree(self, text, reason):
        with pytest.raises(HierarchyError, match=reason):
            Hierarchy.from_newick(text)

    @pytest.mark.parametrize(
        ("number", "value"),
        [
            ("2", 2),
            ("2.", 2),
            (".5", 0.5),
            ("+1.5", 1.5),
            ("1e1", 10),
            ("2.5E-1", 0.25),
            ("007", 7),
        ],
    )
    def test_numbers(self, number, value):
        assert Hierarchy.from_newick(f"(a:{number},b:{number});").height == value

    def test_edges_of_length_zero(self):
        # One leaf at the place of the root, and a node with its parent: distances stay positive.
        assert Hierarchy.from_newick("(a:0,b:1);").distances.tolist() == [[0, 1], [1, 0]]
        many = Hierarchy.from_newick("((a:1,b:1):0,c:1);")
        assert many.distances.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
        assert Hierarchy.from_newick("(a:0,b:0);", edge_lengths=False).height == 1

    def test_not_a_text(self):
        with pytest.raises(TypeError, match="Newick format is needed"):
            Hierarchy.from_newick(["(a,b);"])


class TestBadTrees:
    def test_cycle(self):
        parents = {"a": "r", "b": "r", "x": "y", "y": "z", "z": "x"}
        with pytest.raises(HierarchyError, match="'x' -> 'y' -> 'z' -> 'x'"):
            Hierarchy.from_parents(parents)
        with pytest.raises(HierarchyError, match="go round in a circle"):
            Hierarchy.from_parents({"a": "a"})

    def test_two_roots(self):
        with pytest.raises(HierarchyError, match=r"there are 2 roots \('r', 's'\)"):
            Hierarchy.from_parents({"a": "r", "b": "r", "c": "s", "d": "s"})

    def test_duplicate_leaves(self):
        with pytest.raises(HierarchyError, match="two leaves are called 'cat'"):
            Hierarchy.from_mapping({"pet": ["cat", "dog"], "wild": ["cat", "fox"]})
        with pytest.raises(HierarchyError, match="paths 0 and 1 both lead to 'cat'"):
            Hierarchy.from_paths([["r", "cat"], ["r", "cat"]])

    def test_single_child_chains(self):
        mapping = {"r": {"a": {"b": ["x", "y"]}, "c": {"z": None}}}
        with pytest.raises(HierarchyError, match=r"'a' has one child, 'b'.*collapse_chains=True"):
            Hierarchy.from_mapping(mapping)
        hierarchy = Hierarchy.from_mapping(mapping, collapse_chains=True)
        assert hierarchy.leaf_names == ("x", "y", "z")
        # As if the nodes had not been there.
        assert hierarchy.distances[0].tolist() == [0, 1, 2]
        assert hierarchy.names == ("r", "b", "x", "y", "z")

    def test_a_root_without_a_name(self):
        assert Hierarchy.from_parents({"a": "", "b": ""}).leaf_names == ("a", "b")
        nested = Hierarchy.from_parents({"a": "x", "b": "x", "x": "", "c": ""})
        assert nested.distances[0].tolist() == [0, 1, 2]
        assert nested.names[0] == ""
        with pytest.raises(HierarchyError, match="a leaf has no name"):
            Hierarchy.from_parents({"": "r", "b": "r"})

    def test_two_parents(self):
        with pytest.raises(HierarchyError, match="'dog' has the two parents 'pet' and 'canine'"):
            Hierarchy.from_paths([["r", "pet", "dog", "pug"], ["r", "canine", "dog", "husky"]])

    def test_a_class_that_is_an_inner_node(self):
        with pytest.raises(HierarchyError, match="path 0 ends at 'dog'"):
            Hierarchy.from_paths([["r", "dog"], ["r", "dog", "pug"], ["r", "cat"]])

    @pytest.mark.parametrize("paths", [["r/a"], [["r", 1]], [3], [iter(["r", "a"])]])
    def test_paths_that_are_none(self, paths):
        with pytest.raises(TypeError, match="path 0 must be a sequence of names"):
            Hierarchy.from_paths(paths)

    def test_too_few(self):
        for make in (
            lambda: Hierarchy.from_mapping({}),
            lambda: Hierarchy.from_mapping({"a": None}),
            lambda: Hierarchy.from_parents({}),
            lambda: Hierarchy.from_paths([]),
            lambda: Hierarchy.from_distances([[0.0]]),
        ):
            with pytest.raises(HierarchyError, match=r"least two leaves|K >= 2"):
                make()
        with pytest.raises(HierarchyError, match="path 0 is empty"):
            Hierarchy.from_paths([[]])

    def test_wrong_types(self):
        with pytest.raises(TypeError, match="nested mapping"):
            Hierarchy.from_mapping(["a", "b"])
        with pytest.raises(TypeError, match="names of classes and groups must be strings, found 1"):
            Hierarchy.from_mapping({"a": {1: None, 2: None}})
        with pytest.raises(TypeError, match="children of 'a' must be"):
            Hierarchy.from_mapping({"a": 3, "b": None})
        with pytest.raises(TypeError, match="child to parent"):
            Hierarchy.from_parents([("a", "b")])
        with pytest.raises(TypeError, match="names must be strings"):
            Hierarchy.from_parents({"a": 1})
        for paths in (None, "r/a", 3):
            with pytest.raises(TypeError, match="paths must be a sequence of paths"):
                Hierarchy.from_paths(paths)
        with pytest.raises(TypeError, match="names must be a sequence"):
            Hierarchy.from_parents({"a": "r", "b": "r"}).select(None)

    def test_unknown_and_repeated_labels(self):
        hierarchy = Hierarchy.from_mapping(BALANCED)
        with pytest.raises(HierarchyError, match=r"'cow' is no leaf.*'cat', 'dog', 'van', 'bus'"):
            hierarchy.select(["cat", "cow"])
        with pytest.raises(HierarchyError, match="named twice"):
            hierarchy.select(["cat", "cat"])
        with pytest.raises(HierarchyError, match="at least two leaves"):
            hierarchy.select(["cat"])

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"parents": (-1, 0, -1)}, "every parent must come before"),
            ({"parents": (-1, 0, 2)}, "every parent must come before"),
            ({"heights": (1.0, 2.0, 0.0)}, "heights must not fall on the way up"),
            ({"heights": (1.0, 0.5, 0.0)}, "leaf 'a' has height 0.5; it must be 0"),
            ({"heights": (1.0,)}, "equal length"),
            ({"heights": (0.0, 0.0, 0.0)}, "'r' above 'a' has height 0"),
            ({"heights": (float("inf"), 0.0, 0.0)}, "height inf"),
            ({"heights": (float("nan"), 0.0, 0.0)}, "heights must not fall|height nan"),
            ({"leaves": (1, 1)}, "leaves must hold"),
            ({"leaves": (0, 1)}, "leaves must hold"),
        ],
    )
    def test_built_by_hand(self, change, reason):
        good = {
            "names": ("r", "a", "b"),
            "parents": (-1, 0, 0),
            "heights": (1.0, 0.0, 0.0),
            "leaves": (2, 1),
        }
        assert Hierarchy(**good).leaf_names == ("b", "a")
        with pytest.raises(HierarchyError, match=reason):
            Hierarchy(**good | change)


class TestDistances:
    @pytest.mark.parametrize(
        ("entry", "value", "reason"),
        [
            ((0, 1), 5.0, r"distances\[0, 1\] = 5 differs from its mirror image"),
            ((1, 1), 1.0, "must be 0"),
            ((0, 2), torch.nan, "not a finite number"),
            ((0, 2), -1.0, "negative"),
        ],
    )
    def test_no_distances(self, entry, value, reason):
        D = Hierarchy.from_mapping(BALANCED).distances
        D[entry] = value
        with pytest.raises(HierarchyError, match=reason):
            Hierarchy.from_distances(D)

    def test_duplicates(self):
        D = torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 0]])
        with pytest.raises(HierarchyError, match=r"distances\[0, 1\] = 0 is 0: the two classes"):
            Hierarchy.from_distances(D)

    def test_shapes_and_names(self):
        with pytest.raises(HierarchyError, match=r"shape \(K, K\)"):
            Hierarchy.from_distances(torch.ones(2, 3))
        with pytest.raises(HierarchyError, match="1 names for 2 classes"):
            Hierarchy.from_distances([[0, 1], [1, 0]], ["a"])
        with pytest.raises(HierarchyError, match="unknown linkage 'ward'"):
            Hierarchy.from_distances([[0, 1], [1, 0]], linkage="ward")

    @given(st.integers(3, 8), st.integers(0, 1000))
    def test_not_an_ultrametric(self, K, seed):
        points = np.random.default_rng(seed).normal(size=(K, 3))
        D = np.linalg.norm(points[:, None] - points, axis=2)
        with pytest.raises(HierarchyError, match="no ultrametric") as caught:
            Hierarchy.from_distances(D)
        # The inequality that the message names is indeed violated.
        found = [float(part.split()[0].rstrip(";")) for part in str(caught.value).split("] = ")[1:]]
        assert found[0] > max(found[1:])
        below = Hierarchy.from_distances(D, linkage="single").distances.numpy()
        above = Hierarchy.from_distances(D, linkage="complete").distances.numpy()
        assert (below <= D + 1e-12).all()
        assert (above >= D - 1e-12).all()
        assert np.allclose(Hierarchy.from_distances(below).distances, below)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_rounding_of_a_narrow_dtype(self, dtype):
        tree = Hierarchy.from_newick("((a:0.1,b:0.1):0.3,(c:0.3,d:0.3):0.1);")
        exact = tree.distances
        # Every entry rounded on its own, up or down.
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(4, 4, generator=generator, dtype=torch.float64) - 0.5
        unit = torch.finfo(dtype).eps
        rounded = (exact * (1 + unit * noise)).to(dtype)
        for D in (rounded, rounded.double().numpy().astype(np.float32)):
            if dtype != torch.float32 and isinstance(D, np.ndarray):
                continue
            found = Hierarchy.from_distances(D)
            assert len(found.names) == 7
            torch.testing.assert_close(found.distances, exact, rtol=0, atol=16 * unit * 0.4)
        assert class_cosines(rounded).isfinite().all()

    def test_six_printed_digits(self):
        exact = Hierarchy.from_newick("((a:1,b:1):2,(c:2,d:2):1);").distances / 7
        printed = [[float(f"{value:.6g}") for value in row] for row in exact.tolist()]
        printed[0][2] += 1e-6
        printed[2][0] += 1e-6
        with pytest.raises(HierarchyError, match=r"\(by 1e-06\).*use tolerance=2\.4e-06") as caught:
            Hierarchy.from_distances(printed)
        tolerance = float(str(caught.value).split("tolerance=")[1].split(";")[0])
        found = Hierarchy.from_distances(printed, tolerance=tolerance)
        assert len(found.names) == 7
        worst = (found.distances - torch.tensor(printed, dtype=torch.float64)).abs().max()
        assert worst <= tolerance * exact.max()

    @given(st.integers(3, 12), st.integers(0, 10**6), st.floats(1e-8, 1e-2))
    def test_the_tree_is_within_the_tolerance(self, K, seed, tolerance):
        generator = np.random.default_rng(seed)
        tree = Hierarchy.from_distances(
            np.abs(np.subtract.outer(*2 * [generator.normal(size=K)])), linkage="average"
        )
        exact = tree.distances.numpy()
        noise = generator.uniform(-1, 1, size=(K, K))
        D = exact + tolerance / 3 * exact.max() * (noise + noise.T) / 2 * (exact > 0)
        assume((D >= 0).all() and (D[exact > 0] > 0).all())
        found = Hierarchy.from_distances(D, tolerance=tolerance)
        assert np.abs(found.distances.numpy() - D).max() <= tolerance * D.max() * (1 + 1e-9)
        assert len(found.names) <= len(tree.names)

    def test_many_small_steps_are_not_one(self):
        # A comb whose heights rise by less than the tolerance each, and by far more in all.
        heights = 1 + 0.009 * np.arange(50)
        larger = np.maximum.outer(np.arange(51), np.arange(51))
        D = np.where(np.eye(51) > 0, 0.0, heights[np.maximum(larger, 1) - 1])
        found = Hierarchy.from_distances(D, tolerance=0.01).distances.numpy()
        assert np.abs(found - D).max() <= 0.01 * D.max()

    def test_lists_are_read_in_double_precision(self):
        assert Hierarchy.from_distances([[0, 0.1], [0.1, 0]]).height == 0.1
        with torch.device("meta"):
            assert Hierarchy.from_distances([[0, 0.1], [0.1, 0]]).distances[0, 1] == 0.1

    def test_a_diagonal_of_rounding(self):
        D = torch.tensor([[1e-8, 1.0], [1.0, -1e-8]])
        assert Hierarchy.from_distances(D).distances.tolist() == [[0, 1], [1, 0]]

    @pytest.mark.parametrize(
        ("tolerance", "error"),
        [(True, TypeError), ("1", TypeError), (-1e-9, ValueError), (1.0, ValueError)],
    )
    def test_tolerances_that_are_none(self, tolerance, error):
        with pytest.raises(error, match="tolerance"):
            Hierarchy.from_distances([[0, 1], [1, 0]], tolerance=tolerance)
        with pytest.raises(ValueError, match="found nan"):
            Hierarchy.from_distances([[0, 1], [1, 0]], tolerance=float("nan"))

    @pytest.mark.parametrize("what", ["abc", None, [[0, "1"], ["1", 0]], [[0, 1], [1]], [[0, 1j]]])
    def test_what_is_no_matrix(self, what):
        with pytest.raises(TypeError, match="matrix of real numbers"):
            Hierarchy.from_distances(what)

    def test_the_hierarchy_in_place_of_its_distances(self):
        with pytest.raises(TypeError, match=r"of a hierarchy, hierarchy\.distances"):
            class_cosines(Hierarchy.from_mapping(BALANCED))

    def test_names_that_are_none(self):
        for names in (3, [1, 2], {"a", "b"}):
            with pytest.raises(TypeError, match="names must be a sequence of texts"):
                Hierarchy.from_distances([[0, 1], [1, 0]], names)

    def test_rounding_makes_no_new_nodes(self):
        D = Hierarchy.from_mapping(BALANCED).distances
        noise = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)).double()
        noisy = D * (1 + 1e-13 * (noise + noise.mT))
        assert len(Hierarchy.from_distances(noisy).names) == 7


def test_drawing():
    assert str(Hierarchy.from_mapping(UNEVEN)).splitlines() == [
        "root",
        "├── far",
        "└── near",
        "    ├── b",
        "    │   ├── b1",
        "    │   ├── b2",
        "    │   └── b3",
        "    └── a",
        "        ├── a1",
        "        │   ├── x",
        "        │   └── y",
        "        └── a2",
    ]
    assert repr(Hierarchy.from_mapping(UNEVEN)) == "Hierarchy(7 leaves, height 4)"
    assert str(Hierarchy.from_newick("(a,b);")).splitlines()[0] == "*"
