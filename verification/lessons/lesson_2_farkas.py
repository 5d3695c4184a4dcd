import marimo

app = marimo.App(app_title="Lesson 2: (GN) and Farkas")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Lesson 2: (GN), and how to prove that there is nothing

    Lesson 1 left us with one piece of the margin and its tangent, $L + g^\top\eta$. The paper's first program asks
    whether the linear model can be fooled at all within a ball:

    $$\text{find } \eta \quad\text{such that}\quad L + g^\top\eta < 0,\qquad \|\eta\|_p \le \varepsilon. \tag{GN}$$

    To convince somebody that the answer is *yes*, show an $\eta$. But how do you convince somebody that the answer is
    *no*? Trying many $\eta$ proves nothing. Duality does: a *no* has a witness too, a vector that anyone can check.

    ## The witness

    Split the two conditions by a copy of $\eta$: let $z$ be in the ball, and $\eta = z$. Give that equation a
    multiplier $v$. Whatever $v$ is, for every $\eta$ of the ball

    $$L + g^\top\eta = L + (g+v)^\top\eta - v^\top\eta \;\ge\; L + (g+v)^\top\eta - \varepsilon\|v\|_q,
    \qquad \tfrac1p+\tfrac1q=1,$$

    for $\varepsilon\|v\|_q$ is the largest value of $v^\top z$ over the ball (this is the definition of the dual norm).
    With $v=-g$ the term in $\eta$ vanishes:

    $$L + g^\top\eta \;\ge\; L - \varepsilon\|g\|_q \quad\text{for every } \eta \text{ in the ball.}$$

    If the right-hand side is not negative, (GN) has no solution, and $v = -g$ is the proof. That is a **Farkas
    certificate**: a system of inequalities has no solution if and only if its inequalities, weighted and added, give a
    contradiction. If it *is* negative, the ball has a point that attains the bound (it is compact), and that point
    solves (GN). Hence

    $$\text{(GN) is feasible} \iff \varepsilon\|g\|_q > L.$$
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


@app.cell
def _(ca, datasets, math, models):
    model, images = models.load("digits").double(), datasets.load("digits", limit=40)
    lin = ca.linearize(model, images.x.double())
    nearest = (lin.value / ca.Lp(math.inf).dual(lin.gradient)).argmin(1)  # the piece that needs the smallest ε
    L = lin.value.gather(1, nearest[:, None])[:, 0]
    g = lin.gradient[range(len(L)), nearest]

    program = ca.GN(L, g, (ca.Ball(ca.Lp(math.inf), 0.1),))
    solution = ca.solve(program)
    certificate = ca.certify(program, solution)
    print(solution)
    print(certificate)
    return L, certificate, g, images, lin, model, solution


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Most answers are *no*. Take one of each, and check the two proofs by hand, with nothing but arithmetic:
    """)
    return


@app.cell
def _(L, ca, certificate, g, solution):
    _yes = solution.status.tolist().index(ca.Status.FEASIBLE)
    _no = solution.status.tolist().index(ca.Status.INFEASIBLE)

    _eta = solution.eta[_yes]
    _reached = L[_yes] + g[_yes] @ _eta
    print(f"item {_yes} is feasible: L + gᵀη = {_reached:.4f} < 0 and ‖η‖∞ = {_eta.abs().max():.4f} ≤ 0.1")

    _v = solution.multipliers[0][_no]
    _bound = L[_no] - 0.1 * _v.abs().sum()
    print(f"item {_no} is infeasible: g + v = 0 is {bool((g[_no] + _v == 0).all())}; L − ε‖v‖₁ = {_bound:.4f} ≥ 0")
    print(f"the certificate: primal {certificate.primal[_yes]:.4f}, dual {certificate.dual[_no]:.4f}")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## The picture

    In two dimensions: the ball, the line $L + g^\top\eta = 0$, and beyond it the half-plane where the linear model is
    fooled. The distance from $0$ to the line, in the norm of the ball, is $L/\|g\|_q$. Below that radius ball and
    half-plane are apart, and the line parallel to it that touches the ball separates them. The normal of that
    separating line is the multiplier $v=-g$: Farkas' lemma is the separating hyperplane.
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    radius = mo.ui.slider(0.1, 0.9, 0.05, value=0.3, label="ε", show_value=True)
    exponent = mo.ui.slider(steps=[1, 1.5, 2, 3, 10], value=2, label="p", show_value=True)
    mo.hstack([radius, exponent], justify="start")
    return exponent, radius


@app.cell(hide_code=True)
def _(ca, math, np, torch):
    def draw(axes, p, epsilon, value=1.5, gradient=(1.0, 2.0)):
        """Ball, line, half-plane, and the separating line with its normal."""
        g = np.array(gradient)
        angle = np.linspace(0, 2 * math.pi, 721)
        circle = np.stack([np.cos(angle), np.sin(angle)], 1)
        ball = epsilon * circle / ca.Lp(p)(torch.from_numpy(circle)).numpy()[:, None]
        axes.fill(*ball.T, color="C0", alpha=0.25, lw=0)
        axes.plot(*ball.T, color="C0", lw=1.5)
        x = np.array([-2.0, 2.0])

        def line(level):
            return (level - g[0] * x) / g[1]

        axes.fill_between(x, line(-value), -2, color="C3", alpha=0.15, lw=0)
        axes.plot(x, line(-value), color="C3")
        steep = epsilon * ca.Lp(p).dual(torch.from_numpy(g)[None]).item()
        touch = ca.Lp(p).steepest(torch.from_numpy(g)[None], epsilon)[0].numpy()
        verdict = "feasible" if steep > value else "infeasible"
        if steep <= value:
            axes.plot(x, line(-steep), color="k", lw=1, ls="--")
        axes.annotate("", touch - 0.25 * g, touch, arrowprops={"arrowstyle": "->", "color": "k"})
        axes.plot(*touch, "ko", ms=4)
        name = "∞" if p == math.inf else f"{p:g}"
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", title=f"p = {name}, ε = {epsilon:.2f}: {verdict}")

    return (draw,)


@app.cell(hide_code=True)
def _(draw, exponent, plt, radius):
    # L = 3/2, g = (1, 2): the ball, the half-plane that fools (red), the separating line (dashed) and its normal v = −g
    _figure, _axes = plt.subplots(figsize=(4, 4), layout="constrained")
    draw(_axes, exponent.value, radius.value)
    _figure
    return


@app.cell(hide_code=True)
def _(draw, math, plt):
    # The cube p = ∞: apart, touching in one corner, overlapping. The middle one is the case that the paper leaves out
    _figure, _axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    for _ax, _epsilon in zip(_axes, (0.3, 0.5, 0.7), strict=True):
        draw(_ax, math.inf, _epsilon)
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## A slip of the paper: the case of equality

    Proposition 1 says that (GN) is infeasible if $\varepsilon\|g\|_q < L$. True, but the inequality of (GN) is strict,
    so $\varepsilon\|g\|_q = L$ is infeasible as well: the ball touches the line, and on the line the margin is zero,
    not negative. The middle picture is that case, $p=\infty$, $\varepsilon = 1/2$, $g=(1,2)$, $L=3/2$. All these
    numbers are exact in binary, so a program must not hide behind rounding:
    """)
    return


@app.cell
def _(ca, math, torch):
    touching = ca.GN(
        torch.tensor([1.5], dtype=torch.float64),
        torch.tensor([[1.0, 2.0]], dtype=torch.float64),
        (ca.Ball(ca.Lp(math.inf), 0.5),),
    )
    _solution = ca.solve(touching)
    _certificate = ca.certify(touching, _solution)
    print("paper's condition ε‖g‖₁ < L:", bool(0.5 * 3 < 1.5))
    print(touching.problem())  # in CVXPY, which knows no strict inequality: its slack s is maximized
    print(_solution)
    print("the proof holds:", _certificate.holds().item(), "  bound:", _certificate.dual.item())
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## From one ε to all of them

    Each image has its own threshold $L/\|g\|_q$. Sorted, they give the share of images that the linear model can be
    fooled on within $\varepsilon$. The network itself is another matter: dots show how many it really misclassifies at
    the certified $\eta$.
    """)
    return


@app.cell(hide_code=True)
def _(L, ca, g, images, lin, math, model, np, plt, torch):
    # The linear model (line, with a proof for every image) and the network itself (dots), 40 images, p = ∞
    _threshold = np.sort((L / ca.Lp(math.inf).dual(g)).numpy())
    _figure, _axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    _axes.step(np.r_[0, _threshold, 0.3], np.r_[0, np.arange(1, 41), 40] / 40, where="post", label="(GN) is feasible")
    _radii = np.linspace(0, 0.3, 16)
    with torch.no_grad():
        _wrong = [
            (model(images.x.flatten(1).double() + ca.Lp(math.inf).steepest(g, float(r))).argmax(1) != lin.label)
            .float()
            .mean()
            .item()
            for r in _radii
        ]
    _axes.plot(_radii, _wrong, "o", color="C3", ms=4, label="the network is fooled by that η")
    _axes.set(xlabel="ε, in units of the grey scale", ylabel="share of images", ylim=(-0.03, 1.03))
    _axes.legend(loc="lower right")
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Exercise: a sign

    (GN) for $p=\infty$. The step below is copied from the best-known attack, FastGrad, $\eta =
    \varepsilon\operatorname{sign}(\nabla\,\cdot)$. It lies in the ball. Does it find an adversarial $\eta$ whenever
    there is one? `check_step` looks for a gradient at which another point of the ball is better. **Mend `step`, and say
    why FastGrad has the other sign.**
    """)
    return


@app.cell
def _():
    def step(gradient, radius):
        """gradient (N, d), radius → η (N, d) with ‖η‖∞ ≤ radius and gᵀη as small as possible."""
        return radius * gradient.sign()

    return (step,)


@app.cell
def _(ca, check_step, math, step):
    try:
        check_step(step, ca.GN, norm=ca.Lp(math.inf))
        verdict = "Proved: where this step does not reach L + gᵀη < 0, no point of the ball does. Well done."
    except AssertionError as refuted:
        verdict = f"Not yet. {refuted}"
    print(verdict)
    return (verdict,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    <details><summary>A solution</summary><p>FastGrad <em>increases</em> the training loss; here the margin is to
    <em>fall</em>. With L = −(training loss) the two agree.</p><pre><code>def step(gradient, radius):
        return -radius * gradient.sign()
    </code></pre></details>
    """)
    return


if __name__ == "__main__":
    app.run()
