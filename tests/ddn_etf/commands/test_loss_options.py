from __future__ import annotations

import pytest

from ddn_etf.commands.loss_options import with_loss_options
from ddn_etf.losses import LOSSES


def test_numbers_of_a_loss():
    focal = with_loss_options("focal", LOSSES["focal"], " gamma = 1.5 , validate=False ")
    assert (focal.gamma, focal.validate) == (1.5, False)
    pulled = with_loss_options("dot-regression", LOSSES["dot-regression"], "target=5")
    assert pulled.target == 5.0
    smooth = with_loss_options("label-smoothing", LOSSES["label-smoothing"], "smoothing=0.2")
    assert smooth.smoothing == 0.2
    assert with_loss_options("focal", LOSSES["focal"], " ") is LOSSES["focal"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("focal", "gamma", "loss options look like gamma=2, found 'gamma'"),
        (
            "focal",
            "gama=2",
            r"unknown option 'gama' \(did you mean 'gamma'\?\); options of focal: ",
        ),
        ("focal", "gamma=two", "the loss option gamma must be a number, found 'two'"),
        ("focal", "validate=1", "the loss option validate must be true or false, found '1'"),
        ("focal", "gamma=1,gamma=2", "the loss option 'gamma' is given twice"),
        ("focal", "gamma=-1", "gamma must be a number of at least 0, found -1"),
        # Tensors cannot be given as text.
        (
            "cross-entropy",
            "class_weights=1",
            "unknown option 'class_weights'; options of cross-ent",
        ),
        (
            "center-collapse",
            "scale=2",
            "the loss 'center-collapse' has no options, found 'scale=2'",
        ),
    ],
)
def test_what_a_loss_does_not_have(name, text, message):
    with pytest.raises(ValueError, match=message):
        with_loss_options(name, LOSSES[name], text)
