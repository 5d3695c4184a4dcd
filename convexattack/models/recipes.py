"""How each shipped network is trained and judged, and what its card says of it: one row per network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexattack.models import cifar10, diabetes, digits, mnist, scenes

__all__ = ["RECIPES", "Recipe", "outputs", "wrong"]

Part = tuple[Tensor, Tensor]
"""Inputs (n, *S), and labels (n,) or targets (n, m)."""


@dataclass(frozen=True)
class Recipe:
    """One network: data, loss, training, what is measured, and the words of its card.

    Attributes:
        data: () → (training, test).
        measure: (network, training, test) → rows of the card; the first is what the command prints.
        about: the card's first paragraph.
        rows: further rows of the card.
        decay: the weight decay of AdamW or, where `sgd`, of SGD with Nesterov momentum 0.9.
        noise: the standard deviation of Gaussian noise on the inputs.
        shift: whether images are shifted by up to 4 pixels and mirrored at random.
        source: what `datasets.load` calls the data, where the card should give its note.
        gpu: whether it is trained on a GPU where there is one (bfloat16, channels last); otherwise on one CPU thread.
    """

    data: Callable[[], tuple[Part, Part]]
    loss: Callable[[Tensor, Tensor], Tensor]
    measure: Callable[[nn.Module, Part, Part], dict[str, str]]
    about: str
    rows: dict[str, str]
    epochs: int
    batch: int = 64
    rate: float = 1e-2
    decay: float = 1e-2
    sgd: bool = False
    noise: float = 0.0
    shift: bool = False
    gpu: bool = False
    source: str | None = None

    def training(self, epochs: int, coarse: int = 0) -> str:
        """The card's words for the training."""
        parts = [
            f"{epochs} epochs of {'SGD with Nesterov momentum 0.9' if self.sgd else 'AdamW'} in batches of "
            f"{self.batch}",
            f"the first {coarse} of them on images of half the side (means of 2 × 2 pixels)" if coarse else "",
            f"one-cycle learning rate up to {self.rate:g}",
            f"weight decay {self.decay:g}",
            f"Gaussian noise of {self.noise:g} on the inputs" if self.noise else "",
            "images shifted by up to 4 pixels and mirrored at random" if self.shift else "",
        ]
        return ", ".join(filter(None, parts))


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """The network's outputs (n, m) for n inputs, on the CPU, in float32; computed by 1,000 where the network is."""
    device = next(model.parameters()).device
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return torch.cat([model(rows.to(device)).cpu() for rows in x.split(1000)])


def wrong(model: nn.Module, x: Tensor, label: Tensor) -> int:
    """How many of n inputs the network puts into another class than their label."""
    return int((outputs(model, x).argmax(1) != label).sum())


def errors(model: nn.Module, training: Part, test: Part) -> dict[str, str]:
    """The shares of wrong classes, and the counts."""
    found = {}
    for name, (x, label) in (("Test error", test), ("Training error", training)):
        count = wrong(model, x, label)
        found[name] = f"{count / len(x):.2%} ({count:,} of {len(x):,} images)"
    return found


def regression(model: nn.Module, training: Part, test: Part) -> dict[str, str]:
    """R² and root mean squared error, beside those of linear least squares on the same rows."""
    from sklearn.linear_model import LinearRegression

    line = LinearRegression().fit(*(part.double().numpy() for part in training))

    def of(part: Part, answer: Tensor) -> tuple[float, float]:
        squares = (answer.double() - part[1].double()).square().mean()
        return float(1 - squares / part[1].double().var(correction=0)), float(squares.sqrt())

    r2, rmse = of(test, outputs(model, test[0]))
    line_r2, line_rmse = of(test, torch.from_numpy(line.predict(test[0].double().numpy())))
    train_r2, _ = of(training, outputs(model, training[0]))
    train_line_r2, _ = of(training, torch.from_numpy(line.predict(training[0].double().numpy())))
    return {
        "Test R²": f"{r2:.3f} ({len(test[0])} rows; linear least squares {line_r2:.3f})",
        "Test RMSE": f"{rmse:.1f} points (linear least squares {line_rmse:.1f}; the score's deviation "
        f"{float(test[1].std()):.1f})",
        "Training R²": f"{train_r2:.3f} ({len(training[0])} rows; linear least squares {train_line_r2:.3f})",
    }


def reconstruction(model: nn.Module, training: Part, test: Part) -> dict[str, str]:
    """The mean squared error of a pixel, beside that of the best linear code with as many numbers (PCA)."""
    from sklearn.decomposition import PCA

    code = 16
    linear = PCA(code, svd_solver="full").fit(training[1].double().numpy())
    found = {}
    for name, (x, target) in (("Test error", test), ("Training error", training)):
        wanted = target.double()
        error = float((outputs(model, x).double() - wanted).square().mean())
        best = float(
            (torch.from_numpy(linear.inverse_transform(linear.transform(wanted.numpy()))) - wanted).square().mean()
        )
        found[name] = f"mean squared error {error:.5f} a pixel ({len(x):,} images; PCA with {code} numbers {best:.5f})"
    return found


def by_pixel(answer: Tensor, target: Tensor) -> Tensor:
    """The mean cross entropy of a pixel, for scores (n, m·P), class by class, and classes (n, P)."""
    return functional.cross_entropy(answer.unflatten(1, (-1, target.shape[1])), target)


def segmentation(model: nn.Module, training: Part, test: Part) -> dict[str, str]:
    """The share of pixels in their class, of all and of those of a digit, and the mean intersection over union."""
    found = {}
    for name, (x, target) in (("Test", test), ("Training", training)):
        predicted = outputs(model, x).unflatten(1, (-1, target.shape[1])).argmax(1)
        right, ink = predicted == target, target > 0
        union = [(predicted == k) | (target == k) for k in range(11)]
        overlap = sum(float((right & here).sum() / here.sum()) for here in union) / len(union)
        found[f"{name} pixel accuracy"] = (
            f"{float(right.double().mean()):.2%} of {target.numel():,} pixels ({len(x):,} scenes); "
            f"{float(right[ink].double().mean()):.2%} of the {int(ink.sum()):,} that belong to a digit"
        )
        found[f"{name} IoU"] = f"{overlap:.3f}, mean over background and ten digits"
    return found


_DIGITS = {
    "Data": "the 1,797 images of `sklearn.datasets.load_digits` (test set of UCI's Optical Recognition of Handwritten "
    "Digits), divided by 16",
    "Split": "`train_test_split(..., test_size=360, random_state=0, stratify=labels)`: "
    "random images, not held-out writers",
}
_CLASSES = "scores (logits) of the classes 0 to 9"
_MNIST = {
    "Input": "images (B, 1, 32, 32), or (B, 1, 28, 28) to which the network adds the frame of zeros itself; pixels in "
    "[0, 1]; mean and standard deviation are taken out in the first layer, so ε is in units of the pixel range",
    "Output": _CLASSES,
    "Data": "MNIST, 60,000 images for training and 10,000 for testing, 28 × 28 pixels, two rows of zeros around",
}
_CIFAR10 = {
    "Input": "images (B, 3, 32, 32), pixels in [0, 1]; mean and standard deviation of each colour are taken out in the "
    "first layer, so ε is in units of the pixel range",
    "Output": _CLASSES,
    "Data": "CIFAR-10, 50,000 images for training and 10,000 for testing",
}

RECIPES = {
    "digits": Recipe(
        digits.data,
        functional.cross_entropy,
        errors,
        "A small ReLU network for handwritten digits of 8 × 8 pixels: the model that convexattack is tried out on.\n"
        "It is trained to be accurate, not robust, and to be small; it is no use for reading digits of any other "
        "origin.",
        {
            "Input": "images (B, 1, 8, 8), pixels in [0, 1]; nothing is normalised, "
            "so ε is in units of the pixel range",
            "Output": _CLASSES,
            "Network": "64 → 128 → 64 → 10, ReLU",
            **_DIGITS,
        },
        epochs=40,
        noise=0.1,
    ),
    "digits-autoencoder": Recipe(
        digits.pixels,
        functional.mse_loss,
        reconstruction,
        "A small ReLU autoencoder for handwritten digits of 8 × 8 pixels: the model on which convexattack tries "
        "regression with many\n"
        "outputs, and whose error of reconstruction serves as a score of anomaly.",
        {
            "Input": "images (B, 1, 8, 8), pixels in [0, 1]; nothing is normalised, "
            "so ε is in units of the pixel range",
            "Output": "the pixels again, flat (B, 64), in the same units; its Jacobian has rank 16 at most",
            "Network": "64 → 48 → 16 → 48 → 64, ReLU after the layers of 48",
            **_DIGITS,
        },
        epochs=200,
    ),
    "scenes": Recipe(
        scenes.data,
        by_pixel,
        segmentation,
        "A small fully convolutional ReLU network that finds and reads the handwritten digits of a scene, pixel by "
        "pixel: the model on which\n"
        "convexattack tries segmentation. It is trained on clean scenes of two digits that do not overlap, and is of "
        "no use for others.",
        {
            "Input": "scenes (B, 1, H, W), 20 × 20 in training, pixels in [0, 1]; "
            "nothing is normalised, so ε is in units of the pixel range",
            "Output": "scores (logits) of 11 classes for every pixel, flat (B, 11·H·W), class by class: "
            "background, then the digits 0 to 9",
            "Network": "convolutions 5 × 5 to 16 channels, 3 × 3 (dilation 2) to 32, 3 × 3 (dilation 4) to 32, "
            "1 × 1 to 11, ReLU between",
            **_DIGITS,
            "Scenes": "two digits of one split on 20 × 20 pixels, see `convexattack.datasets.scenes`; 3,000 for "
            "training and 500 for testing; a pixel of at least 0.25 belongs to its digit",
        },
        epochs=30,
        batch=32,
    ),
    "diabetes": Recipe(
        diabetes.data,
        functional.mse_loss,
        regression,
        "A small ReLU network for regression: the progression of diabetes one year after ten measurements of a "
        "patient.\n"
        "It is for trying out attacks, and no use for any patient. Its weight decay and noise, which keep it\n"
        "near the linear fit, were chosen among twelve settings with the test rows in sight: its lead over the linear "
        "fit is no evidence.",
        {
            "Input": "(B, 10): age, sex, body mass index, mean blood pressure and six blood serum measurements, each "
            "less its mean and divided by its standard deviation over the training rows: one unit of η, and of ε, is "
            "one standard deviation of a measurement",
            "Output": "(B, 1): the score of progression in points, 25 to 346 in the data; f(x + η) − f(x) is in points",
            "Network": "10 → 16 → 1, ReLU, then times 77 plus 152",
            "Data": "the 442 rows of `sklearn.datasets.load_diabetes` (Efron, Hastie, Johnstone and Tibshirani, 2004)",
            "Split": "`train_test_split(..., test_size=88, random_state=0)`",
        },
        epochs=100,
        batch=32,
        decay=1.0,
        noise=0.5,
    ),
    "fcnn": Recipe(
        mnist.data,
        functional.cross_entropy,
        errors,
        "The paper's fully connected network for MNIST, hidden layers of 150 and 100. The paper's own has a test error "
        "of 1.7%;\n"
        "the learning rate and the number of epochs were chosen to come near that.",
        {**_MNIST, "Network": "1,024 → 150 → 100 → 10, ReLU"},
        epochs=12,
        batch=128,
        rate=1.5e-3,
        source="mnist",
    ),
    "lenet5": Recipe(
        mnist.data,
        functional.cross_entropy,
        errors,
        "The paper's LeNet-5 for MNIST. The paper's own has a test error of 0.9%; the learning rate and the number of "
        "epochs were\n"
        "chosen to come near that.",
        {
            **_MNIST,
            "Network": "5 × 5 convolutions to 6 and 16 channels, each with ReLU and 2 × 2 max pooling; "
            "400 → 120 → 84 → 10, ReLU",
        },
        epochs=8,
        batch=128,
        rate=1e-3,
        source="mnist",
    ),
    "nin": Recipe(
        cifar10.data,
        functional.cross_entropy,
        errors,
        "The paper's Network in Network for CIFAR-10. The paper's own has a test error of 13.8%.",
        {
            **_CIFAR10,
            "Network": "Network in Network: 5 × 5, 5 × 5 and 3 × 3 convolutions, "
            "two 1 × 1 convolutions after each, ReLU",
        },
        epochs=40,
        batch=128,
        rate=1e-3,
        gpu=True,
        source="cifar10",
    ),
    "densenet40": Recipe(
        cifar10.data,
        functional.cross_entropy,
        errors,
        "The paper's DenseNet for CIFAR-10, 40 layers, growth rate 12. The paper's own has a test error of 5.2%.",
        {**_CIFAR10, "Network": "DenseNet-40, growth rate 12, no bottleneck, no compression"},
        epochs=100,
        batch=128,
        rate=0.1,
        decay=1e-4,
        sgd=True,
        shift=True,
        gpu=True,
        source="cifar10",
    ),
}
"""Network name → how it is made, in the order of the models' docstring."""
