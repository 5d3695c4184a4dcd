from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jacrev, vmap

from convexattack.linearize import Linearization, jacobian, linearize
from convexattack.losses import Loss, class_score, margin, negative_cross_entropy, probabilities, targeted

LOSSES = {
    "margin": margin,
    "targeted": targeted(1),
    "class_score": class_score,
    "negative_cross_entropy": negative_cross_entropy,
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@pytest.fixture(params=[1, 200, 2**30], ids=["one piece a pass", "two pieces a pass", "all pieces in one pass"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which the backward passes are cut, for two images of 48 entries."""
    monkeypatch.setattr(importlib.import_module("convexattack.linearize"), "ENTRIES_AT_ONCE", request.param)
    monkeypatch.setattr(importlib.import_module("convexattack.linearize"), "PIECES_AT_ONCE", 2)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """(B, 3, 4, 4) → (B, 5), in training mode, with all that behaves differently in it; BatchNorm has seen data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.SiLU(),
            nn.Dropout2d(),
            nn.Flatten(),
            nn.Linear(16, 5),
            nn.Dropout(0.9),
            nn.Tanh(),
        )
        model(torch.randn(8, 3, 4, 4))
    return model.to(dtype)


X = normal(2, 3, 4, 4)
LABEL = torch.tensor([4, 0])


@st.composite
def affine(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (B, d), label (B,), A (m, d), b (m,) of small integers: every sum below is exact."""
    n, d, m = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(2, 5))

    def table(*shape: int) -> Tensor:
        size = math.prod(shape)
        return torch.tensor(draw(st.lists(st.integers(-9, 9), min_size=size, max_size=size)), dtype=torch.float64).view(
            shape
        )

    label = torch.tensor(draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n)))
    return table(n, d), label, table(m, d), table(m)


@given(affine())
def test_an_affine_model_is_its_own_linearization(case: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    x, label, a, b = case
    lin = linearize(lambda x: x @ a.T + b, x, label)
    assert lin.pieces == len(a) - 1
    for i, k in enumerate(label.tolist()):
        others = [other for other in range(len(a)) if other != k]
        assert torch.equal(lin.gradient[i], a[k] - a[others])
        assert torch.equal(lin.value[i], (a[k] - a[others]) @ x[i] + b[k] - b[others])
    assert torch.equal(jacobian(lambda x: x @ a.T + b, x), a.expand(len(x), -1, -1))


@each_loss
def test_the_gradient_is_that_of_finite_differences(loss: Loss, path: None) -> None:
    model = network().eval()
    lin = linearize(model, X, LABEL, loss)
    step = 1e-5
    eta = step * torch.eye(48, dtype=torch.float64).view(48, 1, 3, 4, 4)
    with torch.no_grad():
        up, down = (torch.stack([loss(model(X + sign * e), LABEL) for e in eta], -1) for sign in (1, -1))
        torch.testing.assert_close(lin.value, loss(model(X), LABEL), rtol=0, atol=1e-15)
    torch.testing.assert_close(lin.gradient, (up - down) / (2 * step), rtol=0, atol=step**2)


def test_a_relu_network_is_affine_near_an_image() -> None:
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)).double()
    for i, weight in enumerate(model.parameters()):
        weight.data = normal(*weight.shape, seed=i)
    x, eta = normal(20, 6, seed=9), 1e-6 * normal(20, 6, seed=10)
    same = ((model[0](x) > 0) == (model[0](x + eta) > 0)).all(1)
    assert same.sum() > 15
    lin = linearize(model, x)
    there = margin(model(x + eta), lin.label)
    here = lin.value + (lin.gradient @ eta[:, :, None])[:, :, 0]
    torch.testing.assert_close(here[same], there[same], rtol=0, atol=1e-14)


def test_the_jacobian_is_that_of_torch_func(path: None) -> None:
    model = network().eval()
    expected = vmap(jacrev(lambda x: model(x[None])[0]))(X)
    torch.testing.assert_close(jacobian(model, X), expected.flatten(2), rtol=1e-12, atol=1e-15)
    assert jacobian(lambda x: x.square().sum((1, 2, 3))[:, None], X).shape == (2, 1, 48)


def test_the_label_is_the_clean_prediction_unless_given() -> None:
    model = network().eval()
    predicted = model(X).argmax(1)
    assert torch.equal(linearize(model, X).label, predicted)
    assert torch.equal(linearize(model, X).value, linearize(model, X, predicted).value)
    given_label = LABEL.to(torch.int16)
    lin = linearize(model, X, given_label)
    assert lin.label.tolist() == [4, 0]
    assert lin.label.dtype == torch.int64
    given_label[0] = 1
    assert lin.label.tolist() == [4, 0]


def test_flat_puts_the_pieces_of_an_image_together() -> None:
    value, gradient = torch.arange(6.0).view(2, 3), torch.arange(24.0).view(2, 3, 4)
    lin = Linearization(value, gradient, LABEL)
    flat = lin.flat()
    assert lin.pieces == 3
    assert flat[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert flat[1].shape == (6, 4)
    assert all(torch.equal(flat[1][3 * b + k], gradient[b, k]) for b in range(2) for k in range(3))


def test_an_answer_does_not_depend_on_the_neighbours(path: None) -> None:
    model = network()
    x = torch.cat([X, normal(3, 3, 4, 4, seed=1)])
    x[3], x[4, 0, 0, 0] = math.nan, math.inf
    together = linearize(model, x)
    for i in range(3):
        alone = linearize(model, x[i : i + 1])
        torch.testing.assert_close(together.value[i], alone.value[0], rtol=0, atol=1e-15)
        torch.testing.assert_close(together.gradient[i], alone.gradient[0], rtol=0, atol=1e-14)
    assert together.value[3].isnan().all()
    assert together.gradient[3].isnan().any()
    assert torch.isfinite(jacobian(model, x)[:3]).all()


class Everything:
    """All that a model has and must keep: modes, parameters, buffers, gradients, flags, and the tensors themselves."""

    def __init__(self, model: nn.Module) -> None:
        self.modes = [module.training for module in model.modules()]
        self.kept = {
            name: (
                tensor,
                tensor.detach().clone(),
                tensor.requires_grad,
                tensor.grad,
                None if tensor.grad is None else tensor.grad.clone(),
            )
            for name, tensor in model.state_dict(keep_vars=True).items()
        }

    def assert_same(self, model: nn.Module) -> None:
        now = Everything(model)
        assert now.modes == self.modes
        assert now.kept.keys() == self.kept.keys()
        for name, (tensor, value, flag, gradient, gradient_value) in self.kept.items():
            assert now.kept[name][0] is tensor
            assert torch.equal(now.kept[name][1], value)
            assert now.kept[name][2] == flag
            assert now.kept[name][3] is gradient
            if gradient is not None and gradient_value is not None:
                assert torch.equal(gradient, gradient_value)


def lived_in() -> nn.Sequential:
    """A model in the middle of something: modes and flags mixed, gradients half set."""
    model = network()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model.get_parameter("5.weight").grad = torch.ones(5, 16, dtype=torch.float64)
    return model


def test_a_model_is_left_as_it_was(path: None) -> None:
    model = lived_in()
    before = Everything(model)
    linearize(model, X)
    jacobian(model, X)
    linearize(probabilities(model), X)
    before.assert_same(model)
    assert before.modes == [True, True, False, True, True, True, True, True, True]


def test_dropout_and_batchnorm_are_evaluated() -> None:
    model = network()
    lin = linearize(model, X)
    expected = linearize(model.eval(), X)
    assert torch.equal(lin.value, expected.value)
    assert torch.equal(lin.gradient, expected.gradient)
    model.train()
    torch.testing.assert_close(linearize(probabilities(model), X).value, margin(model.eval()(X).softmax(1), lin.label))


def fails(*_: Any) -> Tensor:
    raise KeyError("deliberate")


@pytest.mark.parametrize(
    "call", [lambda model: linearize(model, X, loss=fails), lambda model: linearize(model, X, torch.tensor([0, 5]))]
)
def test_a_model_is_left_as_it_was_by_what_fails_after_it(call: Callable[[nn.Module], object]) -> None:
    model = lived_in()
    before = Everything(model)
    with pytest.raises((KeyError, ValueError)):
        call(model)
    before.assert_same(model)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("call", [linearize, jacobian])
def test_a_model_is_left_as_it_was_when_it_fails(call: Callable[[nn.Module, Tensor], object]) -> None:
    model = lived_in()
    before = Everything(model)
    hook = model[4].register_forward_hook(fails)
    with pytest.raises(KeyError, match="deliberate"):
        call(model, X)
    hook.remove()
    before.assert_same(model)


class Counting(nn.Module):
    """Writes into its buffers in eval mode as well, one in place and one by assignment."""

    in_place: Tensor
    assigned: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("in_place", torch.zeros(()))
        self.register_buffer("assigned", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.in_place += 1
        self.assigned = self.assigned + 1
        return x.flatten(1)[:, :4] * self.in_place


def test_buffers_that_a_model_writes_are_put_back() -> None:
    model = Counting()
    before = Everything(model)
    lin = linearize(model, X)
    before.assert_same(model)
    assert lin.gradient.abs().max() == 1


@pytest.mark.parametrize("inside", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("make_model_inside", [False, True])
def test_the_callers_mode_does_not_matter(
    inside: Callable[[], AbstractContextManager[None]], make_model_inside: bool
) -> None:
    expected = linearize(network(), X, LABEL, targeted(2))
    model = network()
    with inside():
        if make_model_inside:
            model = network()
        enabled = torch.is_grad_enabled()
        lin = linearize(model, X.clone(), LABEL.clone(), targeted(torch.tensor([2, 2])))
        j = jacobian(model, X.clone())
        assert torch.is_grad_enabled() == enabled
    assert torch.equal(lin.gradient, expected.gradient)
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in (lin.value, lin.gradient, lin.label, j))
    (lin.gradient.clone().requires_grad_() ** 2).sum().backward()


@pytest.mark.parametrize("layout", ["requires grad", "part of a graph", "strided", "channels last", "expanded"])
def test_the_images_may_lie_as_they_like(layout: str) -> None:
    x = X.clone()
    if layout == "requires grad":
        x.requires_grad_()
    elif layout == "part of a graph":
        x = x.requires_grad_() * 1
    elif layout == "strided":
        x = X.repeat_interleave(2, dim=-1)[..., ::2]
    elif layout == "channels last":
        x = x.to(memory_format=torch.channels_last)
    else:
        x = X[:1].expand(2, -1, -1, -1)
    expected = linearize(network(), x.detach().contiguous().clone())
    lin = linearize(network(), x)
    assert torch.equal(lin.value, expected.value)
    assert torch.equal(lin.gradient, expected.gradient)
    assert not lin.value.requires_grad
    assert not lin.gradient.requires_grad
    viewing = linearize(lambda x: x.view(2, -1)[:, :3], x)
    assert viewing.gradient.shape == (2, 2, 48)
    assert not x.is_leaf or x.grad is None


def test_a_model_may_overwrite_what_it_gets() -> None:
    x = X.clone()
    lin = linearize(nn.Sequential(nn.ReLU(inplace=True), network()), x)
    assert torch.equal(x, X)
    expected = linearize(nn.Sequential(nn.ReLU(), network()), x)
    assert torch.equal(lin.gradient, expected.gradient)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_that_of_the_images(dtype: torch.dtype, path: None) -> None:
    lin = linearize(network(dtype), X.to(dtype), LABEL)
    expected = linearize(network(), X, LABEL)
    assert lin.value.dtype == lin.gradient.dtype == jacobian(network(dtype), X.to(dtype)).dtype == dtype
    difference = (lin.gradient.double() - expected.gradient).abs().max()
    assert difference <= 8 * torch.finfo(dtype).eps * expected.gradient.abs().max()
    upcast = linearize(lambda x: network()(x.double()), X.to(dtype), LABEL)
    assert upcast.value.dtype == upcast.gradient.dtype == dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_the_device_is_that_of_the_images(path: None) -> None:
    lin = linearize(network().cuda(), X.cuda(), LABEL)
    expected = linearize(network(), X, LABEL)
    assert lin.value.device.type == lin.gradient.device.type == lin.label.device.type == "cuda"
    torch.testing.assert_close(lin.gradient.cpu(), expected.gradient, rtol=1e-10, atol=1e-12)


class Watched(torch.autograd.Function):
    """The identity; counts its backward passes, and cannot be batched if `stubborn`."""

    passes = 0

    @staticmethod
    def forward(ctx: Any, x: Tensor, stubborn: bool) -> Tensor:
        ctx.stubborn = stubborn
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        if ctx.stubborn:
            grads[0].sum().item()
        Watched.passes += 1
        return grads[0], None


@pytest.mark.parametrize(
    ("entries", "fewest", "stubborn", "passes"),
    [(1, 1, False, 4), (2 * 48 * 2, 2, False, 2), (2 * 48 * 2, 3, False, 4), (2**18, 9, False, 1), (2**18, 9, True, 4)],
)
def test_one_forward_pass_and_few_backward_passes(
    entries: int, fewest: int, stubborn: bool, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("convexattack.linearize"), "ENTRIES_AT_ONCE", entries)
    monkeypatch.setattr(importlib.import_module("convexattack.linearize"), "PIECES_AT_ONCE", fewest)
    monkeypatch.setattr(Watched, "passes", 0)
    inner, seen = network().eval(), []

    def model(x: Tensor) -> Tensor:
        seen.append(len(x))
        return inner(Watched.apply(x, stubborn))  # type: ignore[no-untyped-call, no-any-return]

    lin = linearize(model, X)
    assert seen == [2]
    assert Watched.passes == passes
    torch.testing.assert_close(lin.gradient, linearize(inner, X).gradient, rtol=0, atol=1e-15)


def test_a_model_may_branch_on_its_data() -> None:
    inner = network().eval()
    lin = linearize(lambda x: inner(x) if float(x.detach().sum()) < math.inf else -inner(x), X)
    assert torch.equal(lin.gradient, linearize(inner, X).gradient)


def test_batchnorm_without_statistics_mixes_images() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()).double()
    with pytest.raises(ValueError, match="BatchNorm without running statistics, '1', which mixes the images"):
        linearize(model, X)
    assert linearize(model, X[:1]).pieces == 15
    assert model.training


class Frozen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), 3, requires_grad=True)


class WithoutGrad(nn.Module):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x.detach().flatten(1),
        lambda x: torch.from_numpy(x.detach().numpy()).flatten(1),
        lambda x: torch.zeros(2, 3),
        WithoutGrad(),
        Frozen(),
    ],
    ids=["detached", "NumPy", "constant", "no_grad", "parameters only"],
)
@pytest.mark.parametrize("call", [linearize, jacobian])
def test_a_model_without_gradient_is_refused(call: Callable[[Any, Tensor], object], model: Any, path: None) -> None:
    with pytest.raises(
        ValueError, match="model returns no gradient with respect to x: its output must depend on x"
    ) as raised:
        call(model, X)
    assert "\n" not in str(raised.value)


FLAT = nn.Flatten()


def picky(x: Tensor) -> Tensor:
    assert x.shape[1] == 1, "one channel"
    return x.flatten(1)


@pytest.mark.parametrize("call", [linearize, jacobian])
@pytest.mark.parametrize(
    ("model", "x", "kind", "words"),
    [
        (
            FLAT,
            (X * 255).to(torch.uint8),
            TypeError,
            r"x must be floating point, got torch.uint8: convert .* x.float\(\) / 255",
        ),
        (FLAT, X.to(torch.complex64), TypeError, "x must be floating point, got torch.complex64"),
        (FLAT, X.numpy(), TypeError, "x must be a tensor of images .* got ndarray"),
        (FLAT, X[0, 0, 0], ValueError, r"x of shape \(4,\) has no batch dimension: pass one image as x.unsqueeze\(0\)"),
        (FLAT, torch.tensor(1.0), ValueError, r"x of shape \(\) has no batch dimension"),
        (
            network(),
            X[0],
            ValueError,
            r"model does not take x of shape \(3, 4, 4\), .* \(expected 4D input .*\): give it",
        ),
        (FLAT, X[:0], ValueError, r"x of shape \(0, 3, 4, 4\) is empty"),
        (FLAT, X[..., :0], ValueError, r"x of shape \(2, 3, 4, 0\) is empty"),
        ("digits", X, TypeError, "model must be a torch.nn.Module or a callable, got str"),
        (
            network(),
            X[:, :2],
            ValueError,
            r"model does not take x of shape \(2, 2, 4, 4\), torch.float64 on cpu \(.*channels.*\): give it",
        ),
        (
            network(),
            X.float(),
            ValueError,
            r"model does not take x of shape \(2, 3, 4, 4\), torch.float32 on cpu \(.*\): give it",
        ),
        (
            picky,
            X,
            ValueError,
            r"model does not take x of shape \(2, 3, 4, 4\), torch.float64 on cpu \(one channel\): give it",
        ),
        (
            lambda x, y: x,
            X,
            ValueError,
            r"model does not take x of shape .* \(.*missing 1 required positional argument: 'y'\)",
        ),
        (lambda x: x, X, ValueError, r"model must return a tensor \(B, m\) with B = 2, got shape \(2, 3, 4, 4\)"),
        (lambda x: x.sum(), X, ValueError, r"model must return a tensor \(B, m\) with B = 2, got shape \(\)"),
        (
            lambda x: x.flatten(1)[:1],
            X,
            ValueError,
            r"model must return a tensor \(B, m\) with B = 2, got shape \(1, 48\)",
        ),
        (
            lambda x: x.flatten(1)[:, :0],
            X,
            ValueError,
            r"model must return a tensor \(B, m\) with B = 2, got shape \(2, 0\)",
        ),
        (lambda x: (x.flatten(1), x), X, TypeError, r"model must return one floating-point tensor \(B, m\), got tuple"),
        (
            lambda x: x.flatten(1).argmax(1),
            X,
            TypeError,
            r"model must return one floating-point tensor \(B, m\), got torch.int64",
        ),
    ],
)
def test_a_wrong_argument_is_named(
    call: Callable[[Any, Any], object], model: Any, x: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as raised:
        call(model, x)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("loss", "label", "kind", "words"),
    [
        (margin, torch.tensor([0, 48]), ValueError, "label 48 is out of range: with 48 classes use 0 to 47"),
        (class_score, torch.tensor([-1, 0]), ValueError, "label -1 is out of range"),
        (margin, torch.tensor([0]), ValueError, r"label must have shape \(2,\), got \(1,\)"),
        (margin, torch.tensor([0.0, 1.0]), TypeError, "label must be an integer tensor, got torch.float32"),
        (targeted(48), None, ValueError, "t 48 is out of range"),
        (
            lambda output, label: output[:, 0],
            None,
            ValueError,
            r"loss must return a tensor \(B, K\) with B = 2, got shape \(2,\)",
        ),
        (
            lambda output, label: label,
            None,
            TypeError,
            r"loss must return one floating-point tensor \(B, K\), got torch.int64",
        ),
        (lambda output, label: output.detach(), None, ValueError, "no gradient with respect to x"),
    ],
)
def test_a_wrong_label_or_loss_is_named(loss: Loss, label: Tensor | None, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        linearize(FLAT, X, label, loss)
    assert "\n" not in str(raised.value)


def test_a_margin_needs_two_classes() -> None:
    with pytest.raises(ValueError, match=r"output of shape \(2, 1\) has one class"):
        linearize(lambda x: x.flatten(1)[:, :1], X)


def test_running_out_of_memory_is_not_taken_for_a_wrong_image() -> None:
    def model(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("deliberate")

    with pytest.raises(torch.OutOfMemoryError, match="deliberate"):
        linearize(model, X)


def test_modules_that_a_model_switches_on_are_switched_off_again() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.last = nn.Dropout(0.5), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.drop.train()
            return self.last(self.drop(x))  # type: ignore[no-any-return]

    model = Dropping().eval()
    linearize(model, torch.ones(2, 4))
    assert not model.drop.training
    model.last.train()
    linearize(model, torch.ones(2, 4))
    assert model.last.training
