from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from convexattack.losses import Loss, class_score, margin, negative_cross_entropy, probabilities, targeted

LOSSES = {
    "margin": margin,
    "targeted": targeted(1),
    "class_score": class_score,
    "negative_cross_entropy": negative_cross_entropy,
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@st.composite
def scores(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """An output (B, m), of any scale and with ties, and labels (B,)."""
    b, m = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    entries = st.integers(-4, 4).map(float) | st.floats(-1e12, 1e12)
    output = draw(st.lists(st.lists(entries, min_size=m, max_size=m), min_size=b, max_size=b))
    label = draw(st.lists(st.integers(0, m - 1), min_size=b, max_size=b))
    return torch.tensor(output, dtype=torch.float64), torch.tensor(label)


@given(scores())
def test_margin_is_equation_3(case: tuple[Tensor, Tensor]) -> None:
    output, label = case
    expected = [
        [f[k] - f[other] for other in range(len(f)) if other != k]
        for f, k in zip(output.tolist(), label.tolist(), strict=True)
    ]
    assert margin(output, label).tolist() == expected


@given(scores())
def test_the_smallest_margin_is_negative_where_another_class_wins(case: tuple[Tensor, Tensor]) -> None:
    output, label = case
    fooled = output.max(1).values > output.gather(1, label[:, None])[:, 0]
    assert (margin(output, label).min(1).values < 0).tolist() == fooled.tolist()


@given(scores(), st.data())
def test_targeted_aims_at_one_class_or_at_one_for_each_image(case: tuple[Tensor, Tensor], data: st.DataObject) -> None:
    output, label = case
    t = data.draw(st.integers(0, output.shape[1] - 1))
    classes = torch.tensor(
        data.draw(st.lists(st.integers(0, output.shape[1] - 1), min_size=len(label), max_size=len(label)))
    )
    rows = range(len(label))
    assert targeted(t)(output, label).tolist() == [[float(output[b, label[b]] - output[b, t])] for b in rows]
    assert targeted(classes)(output, label).tolist() == [
        [float(output[b, label[b]] - output[b, classes[b]])] for b in rows
    ]


@given(scores())
def test_one_piece_of_the_label(case: tuple[Tensor, Tensor]) -> None:
    output, label = case
    assert class_score(output, label).tolist() == [
        [row[k]] for row, k in zip(output.tolist(), label.tolist(), strict=True)
    ]
    training_loss = nn.functional.cross_entropy(output, label, reduction="none")
    torch.testing.assert_close(negative_cross_entropy(output, label), -training_loss[:, None])


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_shape_stay(loss: Loss, dtype: torch.dtype) -> None:
    output = torch.linspace(-1, 1, 12, dtype=dtype).view(3, 4)
    pieces = loss(output, torch.tensor([0, 2, 3], dtype=torch.uint8))
    assert pieces.dtype == dtype
    assert pieces.shape == (3, 3 if loss is margin else 1)


@each_loss
def test_losses_are_differentiable(loss: Loss) -> None:
    output = torch.tensor([[0.3, -1.2, 0.7], [2.0, 0.1, -0.4]], dtype=torch.float64, requires_grad=True)
    label = torch.tensor([2, 0])
    assert torch.autograd.gradcheck(lambda f: loss(f, label), output)


@each_loss
def test_a_row_that_is_not_finite_stays_alone(loss: Loss) -> None:
    output = torch.tensor([[0.3, -1.2, 0.7], [math.nan, math.inf, 0.0], [2.0, 0.1, -0.4]])
    label = torch.tensor([2, 0, 0])
    kept = torch.tensor([0, 2])
    assert torch.equal(loss(output, label)[kept], loss(output[kept], label[kept]))


def test_names_say_what_a_loss_aims_at() -> None:
    names = [loss.__name__ for loss in (margin, targeted(3), targeted(torch.tensor([1, 2])))]
    assert names == ["margin", "targeted(3)", "targeted(t)"]


def test_probabilities_of_a_module_leave_it_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout()).eval()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    wrapped = probabilities(model)
    output = wrapped(x)
    torch.testing.assert_close(output, model(x).exp() / model(x).exp().sum(1, keepdim=True))
    assert not any(module.training for module in wrapped.modules())
    after = {name: (id(tensor), tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    assert all(
        before[name][0] == after[name][0] and torch.equal(before[name][1], after[name][1]) for name in before | after
    )
    assert probabilities(model.train()).training


def test_probabilities_of_a_plain_callable() -> None:
    torch.testing.assert_close(
        probabilities(lambda x: x.log())(torch.tensor([[1.0, 3.0]])), torch.tensor([[0.25, 0.75]])
    )


OUTPUT = torch.zeros(2, 3)
LABEL = torch.tensor([0, 2])


@each_loss
@pytest.mark.parametrize(
    ("output", "label", "kind", "words"),
    [
        (OUTPUT, torch.tensor([0, 3]), ValueError, "label 3 is out of range: with 3 classes use 0 to 2"),
        (OUTPUT, torch.tensor([-1, 0]), ValueError, "label -1 is out of range"),
        (OUTPUT, torch.tensor([0]), ValueError, r"label must have shape \(2,\), got \(1,\)"),
        (OUTPUT, torch.tensor([[0, 2]]), ValueError, r"label must have shape \(2,\), got \(1, 2\)"),
        (OUTPUT, torch.tensor(0), ValueError, r"label must have shape \(2,\), got \(\)"),
        (OUTPUT, torch.tensor([0.0, 2.0]), TypeError, "label must be an integer tensor, got torch.float32"),
        (OUTPUT, torch.tensor([True, False]), TypeError, "label must be an integer tensor, got torch.bool"),
        (OUTPUT, [0, 2], TypeError, r"label must be an integer tensor \(B,\), got list"),
        (torch.zeros(3), LABEL, ValueError, r"output must have shape \(B, m\), got \(3,\)"),
        (torch.zeros(2, 3, 1), LABEL, ValueError, r"output must have shape \(B, m\), got \(2, 3, 1\)"),
        (OUTPUT.int(), LABEL, TypeError, "output must be floating point, got torch.int32"),
        ((OUTPUT, OUTPUT), LABEL, TypeError, "got tuple"),
    ],
)
def test_a_wrong_argument_is_named(loss: Loss, output: Any, label: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        loss(output, label)
    assert "\n" not in str(raised.value)


def test_a_margin_needs_two_classes() -> None:
    with pytest.raises(ValueError, match=r"output of shape \(2, 1\) has one class"):
        margin(torch.zeros(2, 1), torch.tensor([0, 0]))


@pytest.mark.parametrize("t", [3, -1, torch.tensor([0, 3]), torch.tensor(3)])
def test_a_target_is_a_class(t: int | Tensor) -> None:
    with pytest.raises(ValueError, match=r"t (3|-1) is out of range: with 3 classes"):
        targeted(t)(OUTPUT, LABEL)


@pytest.mark.parametrize("of", [class_score, negative_cross_entropy])
def test_another_loss_is_aimed_at_a_class_by_its_negative(of: Loss) -> None:
    output = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, -1.0]])
    for t in (2, torch.tensor([2, 0])):
        classes = torch.as_tensor(t).expand(2)
        picked = output.gather(1, classes[:, None])
        expected = -picked if of is class_score else output.exp().sum(1, keepdim=True).log() - picked
        torch.testing.assert_close(targeted(t, of)(output, LABEL), expected)
    with pytest.raises(
        TypeError, match=r"of must be a function \(output, label\) -> pieces \(B, K\), got 'class_score'"
    ):
        targeted(2, "class_score")  # type: ignore[arg-type]


def test_targets_are_one_for_each_image() -> None:
    with pytest.raises(ValueError, match=r"t must have shape \(2,\), got \(3,\)"):
        targeted(torch.tensor([0, 1, 2]))(OUTPUT, LABEL)
    with pytest.raises(TypeError, match=r"t must be an integer tensor, got torch.float32"):
        targeted(torch.tensor([0.0, 1.0]))(OUTPUT, LABEL)


@pytest.mark.parametrize("t", [1.0, True, None, "3", torch.tensor(1.0)])
def test_a_target_is_an_integer(t: Any) -> None:
    with pytest.raises(TypeError, match="t must be an int or an integer tensor"):
        targeted(t)


def test_probabilities_need_a_model() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module or a callable, got Tensor"):
        probabilities(OUTPUT)  # type: ignore[arg-type]
