"""Signatures: what is accepted, what is bound, and what an error says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn.errors import DtypeError, ShapeError, SignatureError
from ddn.signature import Signature
from tests.ddn.problems import Ridge, make_node


@pytest.mark.parametrize(
    ("text", "inputs", "outputs"),
    [
        ("(n)->(n)", (("n",),), (("n",),)),
        ("()->()", ((),), ((),)),
        ("(m,n),(m)->(n)", (("m", "n"), ("m",)), (("n",),)),
        ("(m,n)->(m,k),(k)", (("m", "n"),), (("m", "k"), ("k",))),
        (" ( m , n ) , () -> ( n ) ", (("m", "n"), ()), (("n",),)),
        ("(d,10)->(d,9)", (("d", 10),), (("d", 9),)),
        ("(n_in,n2)->(n2)", (("n_in", "n2"),), (("n2",),)),
    ],
)
def test_parse(text, inputs, outputs):
    signature = Signature.parse(text)
    assert (signature.inputs, signature.outputs) == (inputs, outputs)
    assert Signature.parse(str(signature)) == signature


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n->n",
        "(n)",
        "(n)->",
        "->(n)",
        "(n)->(n)->(n)",
        "(n,)->(n)",
        "(n m)->(n)",
        "((n))->(n)",
        "(n),->(n)",
        "(-1)->(n)",
        "(2n)->(n)",
        "(n)(m)->(n)",
        "(n)=>(n)",
        None,
        3,
    ],
)
def test_parse_rejects(text):
    with pytest.raises(SignatureError, match="Cannot read the signature"):
        Signature.parse(text)


names = st.sampled_from(["a", "b", "width", "n_1", 3, 0])
terms = st.lists(names, max_size=3).map(tuple)


@given(st.lists(terms, min_size=1, max_size=3), st.lists(terms, min_size=1, max_size=3))
def test_text_round_trip(inputs, outputs):
    signature = Signature(tuple(inputs), tuple(outputs))
    assert Signature.parse(str(signature)) == signature


def shapes(*sizes):
    return [torch.empty(size) for size in sizes]


def test_bind_sizes_and_batch():
    signature = Signature.parse("(m,n),(m),()->(n,k)")
    binding = signature.bind(shapes((3, 1, 5, 2), (4, 5), ()), {"k": 7})
    assert binding.batch_shape == (3, 4)
    assert dict(binding.sizes) == {"m": 5, "n": 2, "k": 7}
    assert signature.output_shapes(binding.sizes) == [(2, 7)]


def test_bind_scalars_and_empty_batch():
    signature = Signature.parse("(),()->()")
    assert signature.bind(shapes((0, 1), (4,)), {}).batch_shape == (0, 4)
    assert signature.output_shapes({}) == [()]


@pytest.mark.parametrize(
    ("text", "sizes", "found"),
    [
        ("(m,n),(m)->(n)", [(4, 3), (5,)], ["input 1", r"\(m\)", r"\(5,\)", "'m' is 5", "4"]),
        ("(m,n),(m)->(n)", [(4, 3), (2, 5)], ["input 1", r"\(2, 5\)", "input 0"]),
        ("(n,n)->(n)", [(4, 3)], ["input 0", r"\(n,n\)", r"\(4, 3\)", "'n' is 3", "4"]),
        ("(d,10)->(d,9)", [(4, 9)], ["input 0", r"\(d,10\)", "10 is 9", "the signature"]),
        ("(m,n)->(n)", [(4,)], ["input 0", "at least 2", r"\(4,\)"]),
        ("(n)->(n)", [()], ["input 0", "at least 1", r"\(\)"]),
        ("(n),(n)->(n)", [(3, 2), (4, 2)], ["do not broadcast", "input 0", "input 1"]),
        ("(n),(n)->(n)", [(3,)], [r"2 input\(s\)", "called with 1"]),
        ("(n)->(n)", [(3,), (3,)], [r"1 input\(s\)", "called with 2"]),
    ],
)
def test_bind_errors_name_input_term_and_shape(text, sizes, found):
    with pytest.raises(ShapeError) as caught:
        Signature.parse(text).bind(shapes(*sizes), {})
    for pattern in found:
        assert caught.match(pattern)


def test_dimensions_conflict_with_input():
    with pytest.raises(ShapeError, match=r"'n' is 3 there, but 4 according to the node"):
        Signature.parse("(n)->(n)").bind(shapes((3,)), {"n": 4})


def test_unknown_output_dimension():
    node = make_node("(n)->(k)", lambda x, y: y.square().sum() + 0 * x.sum())
    with pytest.raises(SignatureError, match=r"dimension 'k' .* not known"):
        node(torch.zeros(3))


def test_node_checks_types():
    node = Ridge()
    A, b = torch.zeros(4, 3), torch.zeros(4)
    with pytest.raises(DtypeError, match=r"input 2, signature term \(\).* must be a tensor.*float"):
        node(A, b, 0.5)
    with pytest.raises(DtypeError, match=r"input 1.*torch.int64"):
        node(A, b.long(), torch.ones(()))
    with pytest.raises(DtypeError, match=r"complex"):
        node(A.to(torch.complex64), b, torch.ones(()))
    with pytest.raises(DtypeError, match=r"input 1 has dtype torch.float64.*float32|one dtype"):
        node(A, b.double(), torch.ones(()))
    with pytest.raises(ShapeError, match="called with 2"):
        node(A, b)
    with pytest.raises(ShapeError, match="called with 0"):
        node()


def test_node_and_inputs_of_different_dtype():
    node = make_node("(n)->(n)", lambda x, y: (y - x).square().sum())
    node.register_buffer("offset", torch.zeros(3, dtype=torch.float64))
    with pytest.raises(DtypeError, match=r"offset has dtype torch\.float64"):
        node(torch.zeros(3))


def test_missing_pieces():
    with pytest.raises(SignatureError, match="must set `signature` and define `objective`"):
        make_node(None, lambda x, y: y)(torch.zeros(3))
