import marimo

app = marimo.App(app_title="Lesson 1: the first-order model")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Lesson 1: the first-order model

    A classifier is a function $f:\mathbb{R}^d\to\mathbb{R}^m$ from an image $x$ to $m$ scores; its answer is the
    largest one,

    $$k(x) = \operatorname{argmax}_l \; f_l(x). \tag{2}$$

    An adversarial perturbation $\eta$ is small and changes the answer. It does so exactly if

    $$L(x+\eta) = \min_{l \neq k(x)} \left\{ f_{k(x)}(x+\eta) - f_l(x+\eta) \right\} < 0. \tag{3}$$

    $L$ is the *margin*. It is a minimum of $m-1$ functions, its *pieces*, one for each other class $l$. None of them is
    convex in $\eta$, so nobody knows how to minimize $L$ reliably. The way out is the oldest one in analysis: replace
    each piece by its tangent,

    $$f(x+\eta) \approx f(x) + J_f(x)\,\eta. \tag{1}$$

    What is then left to solve is convex, and all six lessons are about it. This one asks how good (1) is.
    """)
    return


@app.cell
def _():
    import math

    import marimo as mo
    import matplotlib.pyplot as plt
    import torch

    import convexattack as ca
    from convexattack import datasets, models
    from convexattack.testing import check_step

    return ca, check_step, datasets, math, mo, models, plt, torch


@app.cell
def _(ca, datasets, models):
    model = models.load("digits")  # a small network with ReLU
    images = datasets.load("digits")  # 360 test images of 8 × 8 pixels in [0, 1]
    lin = ca.linearize(model, images.x)  # every piece of the margin at every test image
    print("value", tuple(lin.value.shape), "  gradient", tuple(lin.gradient.shape))
    print("image 0 shows a", images.label[0].item(), "and the network says", lin.label[0].item())
    print("its nine pieces L_l(x):", [round(v, 1) for v in lin.value[0].tolist()])
    return images, lin, model


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    All nine are positive: each other class is that many units of score behind. The smallest is the margin itself.

    ## A tangent, and where it leaves the curve

    Take one direction $s$, $\|s\|_\infty = 1$, and walk: $\eta = t s$. Drawn are the pieces $L_l(x+ts)$ of the real
    network and, dashed, their tangents $L_l(x) + t\, s^\top \nabla L_l(x)$. Below zero the network is fooled.
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    number = mo.ui.slider(0, 19, value=3, label="image", show_value=True)
    number
    return (number,)


@app.cell(hide_code=True)
def _(ca, images, lin, math, model, plt, torch):
    def walk(i, axes):
        """The pieces at image i along the direction best for the piece with the smallest bound, and their tangents."""
        first = (lin.value[i] / ca.Lp(math.inf).dual(lin.gradient[i])).argmin()
        s = ca.Lp(math.inf).steepest(lin.gradient[i, first][None])[0]
        t = torch.linspace(0, 0.3, 121)
        with torch.no_grad():
            real = ca.margin(model(images.x[i].flatten() + t[:, None] * s), lin.label[i].expand(len(t)))
        tangent = lin.value[i] + t[:, None] * (lin.gradient[i] @ s)
        for piece in range(9):
            color = "C3" if piece == first else "0.6"
            axes.plot(t.numpy(), real[:, piece].numpy(), color=color, lw=1.4, zorder=3 if piece == first else 2)
            axes.plot(t.numpy(), tangent[:, piece].numpy(), color=color, lw=1, ls="--")
        axes.axhline(0, color="k", lw=0.8)
        axes.set(xlabel="t, in units of the grey scale", title=f"image {i}, a {lin.label[i].item()}", ylim=(-10, None))

    return (walk,)


@app.cell(hide_code=True)
def _(number, plt, walk):
    # The pieces (solid) and their tangents (dashed) at one image; red: the piece that the direction was made for
    _figure, _axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    walk(number.value, _axes)
    _axes.set_ylabel("scores")
    _figure
    return


@app.cell(hide_code=True)
def _(plt, walk):
    # The same at three other images
    _figure, _axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for _i, _ax in zip((0, 7, 12), _axes, strict=True):
        walk(_i, _ax)
    _axes[0].set_ylabel("scores")
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    This network is piecewise linear, so near $t = 0$ the tangent *is* the function: (1) holds with equality until the
    first ReLU switches. Beyond that it is an approximation, and nothing in the paper bounds its error. (The paper's
    Remark 1 calls it a hypothesis: that networks are nearly linear where it matters.) So it has to be measured:
    """)
    return


@app.cell
def _(ca, images, lin, math, model, torch):
    def linear_error(radius):
        """|L(x+η) − (L + gᵀη)| at every test image, for its nearest piece and the best η of the cube."""
        pieces = (lin.value / ca.Lp(math.inf).dual(lin.gradient)).argmin(1)
        rows = torch.arange(len(pieces))
        g, value = lin.gradient[rows, pieces], lin.value[rows, pieces]
        eta = ca.Lp(math.inf).steepest(g, radius)
        with torch.no_grad():
            real = ca.margin(model(images.x.flatten(1) + eta), lin.label)[rows, pieces]
        return (real - (value + (g * eta).sum(1))).abs()

    for _radius in (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3):
        _error = linear_error(_radius)
        print(f"ε = {_radius:6g}   error of (1): median {_error.median():.1e}, worst {_error.max():.1e}")
    print(f"median margin: {lin.value.amin(1).median():.1f}")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Up to $\varepsilon = 0.001$ the median error is nothing but rounding (float32). At $0.1$, where the linear model
    calls half of the images fooled, it is more than a tenth of the median margin, and at $0.3$ it is half of it. So a
    statement about the linear model is a statement about the *network* only as far as this table reaches, and every
    command of this project prints the two side by side.

    ## Two slips of the paper

    **Probabilities or scores.** The text says that $f$ has unit $\ell_1$ norm, that is, softmax probabilities. Its
    figures cannot have been made with them. At a confident image softmax is flat: the gradient vanishes, and with it
    the first-order model.
    """)
    return


@app.cell
def _(ca, images, lin, math, model):
    soft = ca.linearize(ca.probabilities(model), images.x)
    for _name, _lin in (("scores", lin), ("probabilities", soft)):
        _steep = ca.Lp(math.inf).dual(_lin.gradient).amax(1)
        _needed = (_lin.value / ca.Lp(math.inf).dual(_lin.gradient)).amin(1)
        print(
            f"{_name:14} steepest ‖g‖₁: median {_steep.median():.2g}, smallest ε that fools the linear model:", end=" "
        )
        print(f"median {_needed.median():.2g}, largest {_needed.max():.2g}")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    On the scores the linear model asks for an $\varepsilon$ of about a tenth of the grey scale. On probabilities it
    asks for many times the whole range: it would call nearly every image impossible to fool. Everything here uses
    scores (*logits*), and says so.

    **Which piece.** $L$ in (3) is a minimum, so $\nabla L(x)$ is the gradient of the piece that is smallest *at* $x$.
    After the step another one may be the smallest. The text linearizes the first; the published numbers need the one
    that is smallest *after* its own best step:
    """)
    return


@app.cell
def _(ca, lin, math):
    _before = lin.value.argmin(1)
    for _radius in (0.03, 0.1, 0.3):
        _after = (lin.value - _radius * ca.Lp(math.inf).dual(lin.gradient)).argmin(1)
        _changed = (_before != _after).float().mean()
        print(f"ε = {_radius}: another piece is the best one on {_changed:.0%} of the images")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    So the library linearizes all $m-1$ pieces, solves one program for each, and keeps the best.

    ## Exercise: the step of a gradient descent

    We know $L$ and $g = \nabla L(x)$ of one piece and may move by $\|\eta\|_2 \le \varepsilon$. Which $\eta$ makes
    $L + g^\top\eta$ smallest? Anyone who has trained a network writes the step below. `check_step` draws gradients,
    asks for the step, and lets a certificate judge it. **Mend `step` until it is proved.** (Lesson 3 has the proof for
    every norm. What should happen where $g = 0$?)
    """)
    return


@app.cell
def _():
    def step(gradient, radius):
        """gradient (N, d), radius → η (N, d) with ‖η‖₂ ≤ radius and gᵀη as small as possible."""
        return -radius * gradient

    return (step,)


@app.cell
def _(ca, check_step, step):
    try:
        check_step(step, ca.GNII, norm=ca.Lp(2), tolerance=ca.Tolerance())  # forgives rounding
        verdict = "Proved on every gradient tried: in the ball, and no point of it is better. Well done."
    except AssertionError as refuted:
        verdict = f"Not yet. {refuted}"
    print(verdict)
    return (verdict,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    <details><summary>A solution</summary><pre><code>def step(gradient, radius):
        length = gradient.norm(dim=-1, keepdim=True)
        direction = gradient / torch.where(length &gt; 0, length, 1)
        return -radius * direction
    </code></pre></details>
    """)
    return


if __name__ == "__main__":
    app.run()
