import marimo

app = marimo.App(app_title="Lesson 3: (GNII) and dual norms")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Lesson 3: (GNII) and dual norms

    (GN) may have no solution. The paper's second program always has one; it asks for the *best* perturbation within the
    ball:

    $$\text{minimize } L + g^\top\eta \quad\text{subject to}\quad \|\eta\|_p \le \varepsilon. \tag{GNII}$$

    ## From the program to its optimum

    **Lagrangian.** As in lesson 2, write $\eta = z$ with $z$ in the ball and give the equation the multiplier $v$:
    $L + g^\top\eta + v^\top(\eta - z)$.

    **Dual.** Over the free $\eta$ the infimum is $-\infty$ unless $v=-g$. So there is one dual point, and it says

    $$L + g^\top\eta \ge L - \varepsilon\|g\|_q \quad\text{for every } \|\eta\|_p\le\varepsilon,
    \qquad \tfrac1p+\tfrac1q=1,$$

    where $\|g\|_q = \max\{g^\top z : \|z\|_p\le 1\}$ is the **dual norm**.

    **Optimum.** That $\|\cdot\|_q$ is the dual norm is Hölder's inequality, and its case of equality tells us $\eta$:
    $|\eta_i|^p$ must be proportional to $|g_i|^q$, that is $|\eta_i|$ to $|g_i|^{q-1}$, with the opposite sign. Scaled
    to length $\varepsilon$ (use $(q-1)p=q$):

    $$\eta = -\varepsilon\,\frac{\operatorname{sign}(g)\,|g|^{q-1}}{\|g\|_q^{\,q-1}}. \tag{6}$$

    Put it in: $g^\top\eta = -\varepsilon\sum_i|g_i|^q/\|g\|_q^{\,q-1} = -\varepsilon\|g\|_q$. The bound is attained, so
    $\eta$ is optimal and the bound is the best one: strong duality, without a theorem. For $p=\infty$, $q = 1$ and (6)
    is

    $$\eta = -\varepsilon \operatorname{sign}(g). \tag{7}$$
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
    ## The picture

    Left: the ball, level lines of $g^\top\eta$, and the lowest one that still meets the ball (red). It touches the ball
    at $\eta$. The multiplier $v=-g$ stands on it at right angles and leans on the ball: no point of the ball goes
    further in its direction. Right: the dual ball $\|v\|_q\le1$ with $v/\|g\|_q$ on its boundary. Corners of one ball
    are sides of the other.
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    exponent = mo.ui.slider(steps=[1, 1.2, 1.5, 2, 3, 5, 10, 1000], value=1.5, label="p", show_value=True)
    radius = mo.ui.slider(0.2, 1, 0.05, value=0.7, label="ε", show_value=True)
    direction = mo.ui.slider(0, 355, 5, value=30, label="direction of g, degrees", show_value=True)
    mo.vstack([exponent, radius, direction])
    return direction, exponent, radius


@app.cell(hide_code=True)
def _(ca, math, np, torch):
    _angle = np.linspace(0, 2 * math.pi, 1441)
    circle = np.stack([np.cos(_angle), np.sin(_angle)], 1)

    def rim(p, size=1.0):
        """The boundary of {‖η‖_p ≤ size} in the plane."""
        return size * circle / ca.Lp(p)(torch.from_numpy(circle)).numpy()[:, None]

    def name(p):
        return "∞" if p == math.inf else f"{p:g}"

    def picture(axes, p, epsilon, degrees):
        """Ball, level lines of gᵀη, the optimal one, η, and the multiplier at η."""
        g = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        row = torch.from_numpy(g)[None]
        eta, steep = ca.Lp(p).steepest(row, epsilon)[0].numpy(), ca.Lp(p).dual(row).item()
        axes.fill(*rim(p, epsilon).T, color="C0", alpha=0.25, lw=0)
        axes.plot(*rim(p, epsilon).T, color="C0", lw=1.5)
        x = np.linspace(-1.5, 1.5, 61)
        height = g[0] * x[None, :] + g[1] * x[:, None]
        axes.contour(x, x, height, levels=np.linspace(-2, 2, 21), colors="0.8", linewidths=0.7, linestyles="solid")
        axes.contour(x, x, height, levels=[-epsilon * steep], colors="C3", linewidths=1.6, linestyles="solid")
        axes.annotate("", eta - 0.5 * g, eta, arrowprops={"arrowstyle": "-|>", "color": "k"})
        axes.annotate("v", eta - 0.58 * g, ha="center", va="center")
        axes.plot(*eta, "ko", ms=5)
        axes.annotate("η", eta + 0.12 * g, ha="center", va="center")
        title = f"p = {name(p)}, ε = {epsilon:g}: gᵀη = {-epsilon * steep:.2f}"
        axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", title=title)

    def dual_picture(axes, p, degrees):
        """The dual ball, and v / ‖g‖_q on its boundary."""
        v = -np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        norm = ca.Lp(p)
        on = v / norm.dual(torch.from_numpy(v)[None]).item()
        axes.fill(*rim(norm.q).T, color="C2", alpha=0.2, lw=0)
        axes.plot(*rim(norm.q).T, color="C2", lw=1.5)
        axes.annotate("", on, (0, 0), arrowprops={"arrowstyle": "-|>", "color": "k", "shrinkA": 0, "shrinkB": 0})
        axes.annotate("v/‖g‖$_q$", 1.25 * on, ha="center", va="center")
        axes.set(
            xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", title=f"dual ball, q = {norm.q:.3g}".replace("inf", "∞")
        )

    return dual_picture, picture


@app.cell(hide_code=True)
def _(direction, dual_picture, exponent, picture, plt, radius):
    # Left: ball, level lines, optimum and multiplier. Right: the dual ball
    _figure, _axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    picture(_axes[0], exponent.value, radius.value, direction.value)
    dual_picture(_axes[1], exponent.value, direction.value)
    _figure
    return


@app.cell(hide_code=True)
def _(dual_picture, math, picture, plt):
    # The same g for four norms: from one corner (p = 1), along g (p = 2), to the other (p = ∞)
    _figure, _axes = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
    for _column, _p in zip(_axes.T, (1, 1.5, 2, math.inf), strict=True):
        picture(_column[0], _p, 0.7, 30)
        dual_picture(_column[1], _p, 30)
    for _ax in _axes.flat:
        _ax.title.set_fontsize(10)
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Turn $g$ in the live notebook. For $p=2$ the point $\eta$ follows it; for $p = 1$ it waits in a corner and jumps
    when $|g_1|=|g_2|$. There the whole side is optimal: for $p\in\{1,\infty\}$ the minimizer need not be unique, the
    value always is.

    ## A slip of the paper: p = 1

    (6) is stated with $q = p/(p-1)$, which has no meaning for $p=1$. Its limit is right: as $q\to\infty$,
    $|g|^{q-1}/\|g\|_q^{q-1}$ keeps only a largest entry, and *all* of $\varepsilon$ goes to one coordinate. Numbers can
    show a limit:
    """)
    return


@app.cell
def _(ca, torch):
    _g = torch.tensor([[0.5, -2.0, 1.9]], dtype=torch.float64)
    for _p in (2, 1.5, 1.1, 1.01, 1.001, 1):
        _eta = ca.Lp(_p).steepest(_g, 1.0)
        _entries = [round(v, 3) for v in _eta[0].tolist()]
        print(
            f"p = {_p:5}   gᵀη = {(_g @ _eta[0]).item():.4f}   −‖g‖_q = {-ca.Lp(_p).dual(_g).item():.4f}   η = "
            f"{_entries}"
        )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## On an image

    The same four norms on a digit, each with a radius at which the linear model is just fooled (lesson 4 computes it).
    Below each picture stands what the certificate proves: primal is $L+g^\top\eta$, dual is $L-\varepsilon\|g\|_q$,
    from $v$ alone.
    """)
    return


@app.cell
def _(ca, datasets, math, models):
    model, image = models.load("digits").double(), datasets.load("digits", limit=1).x.double()
    lin = ca.linearize(model, image)
    judged = {}
    for _p in (1, 1.5, 2, math.inf):
        _norm = ca.Lp(_p)
        _radius = (lin.value / _norm.dual(lin.gradient)).min().item() * 1.001
        _program = ca.GNII(*lin.flat(), (ca.Ball(_norm, _radius),))  # nine programs, one for each piece
        _solution = ca.solve(_program)
        _certificate = ca.certify(_program, _solution)
        _best = _certificate.primal.argmin()
        print(
            f"p = {_p:4}  ε = {_radius:.3f}  primal {_certificate.primal[_best]:+.4f}",
            f" dual {_certificate.dual[_best]:+.4f}  all nine proved:",
            _certificate.holds(ca.Tolerance.closed_form()).all().item(),
        )
        judged[_p] = _solution.eta[_best]
    return image, judged, lin, model


@app.cell(hide_code=True)
def _(image, judged, lin, math, model, plt, torch):
    # The image, and image plus perturbation for each norm, with what the network says. Fewer pixels change as p falls
    _figure, _axes = plt.subplots(1, 5, figsize=(9, 2.4), layout="constrained")
    _axes[0].imshow(image[0, 0].numpy(), cmap="gray_r", vmin=0, vmax=1)
    _axes[0].set_title(f"a {lin.label.item()}", fontsize=10)
    for _ax, (_p, _eta) in zip(_axes[1:], judged.items(), strict=True):
        _moved = image + _eta.view_as(image)
        with torch.no_grad():
            _says = model(_moved).argmax().item()
        _ax.imshow(_moved[0, 0].numpy(), cmap="gray_r", vmin=0, vmax=1)
        _ax.set_title(f"p = {'∞' if _p == math.inf else _p}: a {_says}", fontsize=10)
    for _ax in _axes:
        _ax.set_axis_off()
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    The linear model is fooled in all four by construction, the network only where its title says so: a certificate
    speaks of the convex program.

    ## Exercise: the ℓ1 step of the libraries

    For $p=1$ at least one well-known library takes the step below: $g$ divided by its own norm. It is in the ball. Is
    it optimal? **Mend `step`.** (Mind ties, and $g=0$.)
    """)
    return


@app.cell
def _():
    def step(gradient, radius):
        """gradient (N, d), radius → η (N, d) with ‖η‖₁ ≤ radius and gᵀη as small as possible."""
        return -radius * gradient / gradient.abs().sum(-1, keepdim=True)

    return (step,)


@app.cell
def _(ca, check_step, step):
    try:
        check_step(step, ca.GNII, norm=ca.Lp(1))
        verdict = "Proved: one pixel takes it all, and no point of the ball is better. Well done."
    except AssertionError as refuted:
        verdict = f"Not yet. {refuted}"
    print(verdict)
    return (verdict,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    <details><summary>A solution</summary><pre><code>def step(gradient, radius):
        largest = gradient.abs().argmax(-1, keepdim=True)
        eta = torch.zeros_like(gradient)
        return eta.scatter(-1, largest, -radius * gradient.gather(-1, largest).sign())
    </code></pre></details>
    """)
    return


if __name__ == "__main__":
    app.run()
