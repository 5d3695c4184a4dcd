import marimo

app = marimo.App(app_title="Lesson 4: (8) and DeepFool")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Lesson 4: (8), the smallest perturbation, and DeepFool

    Turn the question of lesson 2 round: not whether $\varepsilon$ is enough, but how much is needed.

    $$\text{minimize } \|\eta\|_p \quad\text{subject to}\quad L + g^\top\eta \le 0. \tag{8}$$

    **Lagrangian**, $\lambda\ge0$: $\;\|\eta\|_p + \lambda(L + g^\top\eta)$.

    **Dual.** If $\|\lambda g\|_q\le1$ then $\lambda g^\top\eta\ge-\|\eta\|_p$ by Hölder, and the infimum over $\eta$ is
    $\lambda L$; otherwise it is $-\infty$. So

    $$\text{maximize } \lambda L \quad\text{subject to}\quad \lambda\ge0,\;\; \lambda\|g\|_q\le1,$$

    which for $L>0$ is solved by $\lambda=1/\|g\|_q$. Every $\eta$ that reaches the line is at least $L/\|g\|_q$ long:
    **the distance of a point from a line, measured in one norm, is the value divided by the dual norm of the slope.**

    **Optimum.** Walk along (6) just far enough for $g^\top\eta=-L$:

    $$\eta = -L\,\frac{\operatorname{sign}(g)\,|g|^{q-1}}{\|g\|_q^{\,q}},\qquad \|\eta\|_p=\frac{L}{\|g\|_q}.$$

    The bound is attained. If $L\le0$ the image is on the other side already, and $\eta=0$.
    """)
    return


@app.cell
def _():
    import math

    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np
    import torch

    import convexattack as ca
    from convexattack import datasets, models
    from convexattack.testing import check_step

    return ca, check_step, datasets, math, mo, models, np, plt, torch


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## The nearest of several lines

    The linearized classifier changes its mind as soon as *any* piece is negative: on a union of half-planes. The
    nearest point of a union is the nearest of the nearest points. So solve (8) for every piece and keep the shortest
    answer. Let a ball grow until it touches the first line; which one that is depends on the norm.
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    exponent = mo.ui.slider(steps=[1, 1.2, 1.5, 2, 3, 5, 10, 1000], value=2, label="p", show_value=True)
    exponent
    return (exponent,)


@app.cell(hide_code=True)
def _(ca, math, np, torch):
    lines = ((1.0, (1.0, 1.0)), (0.85, (-0.2, 1.35)), (1.3, (-1.0, -0.9)))  # L and g of three pieces

    def grow(axes, p):
        """The ball that touches the nearest line, and the best η of each piece."""
        norm = ca.Lp(p)
        L = torch.tensor([line[0] for line in lines], dtype=torch.float64)
        g = torch.tensor([line[1] for line in lines], dtype=torch.float64)
        eta = ca.solve(ca.MinNorm(L, g, norm)).eta.numpy()
        sizes = norm(torch.from_numpy(eta)).numpy()
        angle = np.linspace(0, 2 * math.pi, 721)
        circle = np.stack([np.cos(angle), np.sin(angle)], 1)
        ball = sizes.min() * circle / norm(torch.from_numpy(circle)).numpy()[:, None]
        axes.fill(*ball.T, color="C0", alpha=0.25, lw=0)
        axes.plot(*ball.T, color="C0", lw=1.5)
        x = np.array([-2.0, 2.0])
        for k, (value, (a, b)) in enumerate(lines):
            axes.plot(x, (-value - a * x) / b, color=f"C{k + 1}", lw=1.5)
            nearest = k == sizes.argmin()
            arrow = {"arrowstyle": "-|>", "color": f"C{k + 1}", "lw": 2.5 if nearest else 1, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", eta[k], (0, 0), arrowprops=arrow)
        axes.plot(0, 0, "ko", ms=4)
        axes.set(
            xlim=(-1.3, 1.3),
            ylim=(-1.3, 1.3),
            aspect="equal",
            title=f"p = {'∞' if p == math.inf else f'{p:g}'}: {sizes.min():.3f}",
        )

    return (grow,)


@app.cell(hide_code=True)
def _(exponent, grow, plt):
    # Three pieces: their lines, the shortest η to each, and the ball that has just reached the nearest
    _figure, _axes = plt.subplots(figsize=(4, 4), layout="constrained")
    grow(_axes, exponent.value)
    _figure
    return


@app.cell(hide_code=True)
def _(grow, math, plt):
    # The same three lines in three norms
    _figure, _axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    for _ax, _p in zip(_axes, (1, 2, math.inf), strict=True):
        grow(_ax, _p)
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## One step of DeepFool

    DeepFool (Moosavi-Dezfooli, Fawzi and Frossard) was found another way. With $w_l = \nabla f_l - \nabla f_k$ and
    $f'_l = f_l - f_k$ it chooses

    $$\hat l = \operatorname{argmin}_{l\ne k} \frac{|f'_l|}{\|w_l\|_q}, \qquad
    r = \frac{|f'_{\hat l}|}{\|w_{\hat l}\|_q^{\,q}}\,|w_{\hat l}|^{q-1}\odot\operatorname{sign}(w_{\hat l}).$$

    Put $L = -f'_l$ and $g = -w_l$: $\hat l$ is the piece with the smallest optimum of (8), and $r$ is its solution. (A
    slip of the paper: in Section IV it displays $L = f_k - f_l$ for DeepFool; the $l$ there has to be this $\hat l$.)
    Check it on a digit, with DeepFool's own formula written out:
    """)
    return


@app.cell
def _(ca, datasets, models):
    model, image = models.load("digits").double(), datasets.load("digits", limit=40).x[39:].double()
    norm = ca.Lp(2)
    lin = ca.linearize(model, image)
    program = ca.MinNorm(*lin.flat(), norm)
    solution = ca.solve(program)
    certificate = ca.certify(program, solution)
    best = certificate.primal.argmin()
    print("sizes of the nine optima:", [round(v, 3) for v in certificate.primal.tolist()])
    print("proved lower bounds λL:  ", [round(v, 3) for v in certificate.dual.tolist()])
    print("all nine proved optimal:", certificate.holds(ca.Tolerance.closed_form()).all().item())

    J = ca.jacobian(model, image)[0]
    scores, k = model(image)[0].detach(), lin.label.item()
    w, f = J - J[k], scores - scores[k]
    distance = f.abs() / w.norm(dim=1)
    distance[k] = float("inf")
    chosen = distance.argmin()
    r = f[chosen].abs() / w[chosen].norm() ** 2 * w[chosen]
    apart = (r - solution.eta[best]).abs().max()
    print(f"DeepFool goes from {k} towards {chosen.item()}; its step and ours differ by {apart:.0e}")
    return best, image, model, norm, solution


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Step after step

    (8) ends on the line of the *linear* model. There $L+g^\top\eta=0$, not below zero, and the real network has bent
    away meanwhile. The paper says that (8) recovers DeepFool "without the iterative procedure", and that it is easily
    added: linearize again where you are, and repeat. Two details matter. A factor, the *overshoot* $1.02$, makes the
    last step cross the line; and $k$ stays the first answer.
    """)
    return


@app.cell
def _(ca, image, model, norm, torch):
    _label = model(image).argmax(1)
    _x = image.clone()
    for _number in range(10):
        _lin = ca.linearize(model, _x, _label)
        _total = norm((_x - image).flatten(1)).item()
        _says = model(_x).argmax().item()
        print(f"after {_number} steps: ‖η‖₂ = {_total:.4f}, margin {_lin.value.min():+.4f}, the network says {_says}")
        if _lin.value.min() < 0:
            break
        _step = ca.MinNorm(1.02 * _lin.value[0], _lin.gradient[0], norm)  # the overshoot is part of the program
        _eta = ca.solve(_step).eta
        _x = _x + _eta[norm(_eta).argmin()].view_as(_x)

    _attack = ca.deepfool(norm)(model, image, _label)
    print(
        f"ca.deepfool: {_attack.steps.item()} steps, ‖η‖₂ = {_attack.size.item():.4f}, fooled: {_attack.fooled.item()}"
    )
    print(f"its last step proved optimal: {_attack.certificate.holds().item()}")
    fooled_image = _x
    with torch.no_grad():
        fooled_label = model(fooled_image).argmax().item()
    return fooled_image, fooled_label


@app.cell(hide_code=True)
def _(fooled_image, fooled_label, image, plt):
    # The image, the perturbation, and their sum
    _figure, _axes = plt.subplots(1, 3, figsize=(6, 2.4), layout="constrained")
    for _ax, _picture, _title in zip(
        _axes,
        (image, fooled_image - image, fooled_image),
        ("x", "η (red is up)", f"x + η: a {fooled_label}"),
        strict=True,
    ):
        _signed = "η" in _title and "x" not in _title
        _ax.imshow(
            _picture[0, 0].numpy(),
            cmap="RdBu_r" if _signed else "gray_r",
            vmin=-0.5 if _signed else 0,
            vmax=0.5 if _signed else 1,
        )
        _ax.set_title(_title, fontsize=10)
        _ax.set_axis_off()
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Each step is proved optimal; their sum is not. DeepFool's size is an upper bound on the distance of the network's
    boundary, and the first step's certificate is a statement about the first tangent only.

    ## Exercise: the right direction, the wrong norm

    Somebody has adapted DeepFool to $p=\infty$ and kept the Euclidean step. It satisfies $L+g^\top\eta\le0$. **Mend
    `step`, so that $\|\eta\|_\infty$ is smallest.** Where $L\le0$, nothing has to be done; where $g=0<L$, nothing can.
    """)
    return


@app.cell
def _():
    def step(gradient, value):
        """gradient (N, d), value (N,) → η (N, d) with L + gᵀη ≤ 0 and ‖η‖∞ as small as possible."""
        return -value[:, None] * gradient / gradient.square().sum(-1, keepdim=True)

    return (step,)


@app.cell
def _(ca, check_step, math, step):
    try:
        check_step(step, ca.MinNorm, norm=ca.Lp(math.inf), tolerance=ca.Tolerance())
        verdict = "Proved: nothing shorter reaches the line. This is DeepFool for p = ∞. Well done."
    except AssertionError as refuted:
        verdict = f"Not yet. {refuted}"
    print(verdict)
    return (verdict,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    <details><summary>A solution</summary><pre><code>def step(gradient, value):
        steep = gradient.abs().sum(-1)
        size = value.clamp_min(0) / torch.where(steep &gt; 0, steep, 1)
        return -size[:, None] * gradient.sign()
    </code></pre></details>
    """)
    return


if __name__ == "__main__":
    app.run()
