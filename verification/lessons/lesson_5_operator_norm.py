import marimo

app = marimo.App(app_title="Lesson 5: ℓ∞ → 2, from d × d to m × m")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Lesson 5: ℓ∞ → 2, from d × d to m × m

    A regression has no classes to confuse. Its attacker moves the output as far as possible: in the linear model (1),

    $$\text{maximize } \|J\eta\|_2 \quad\text{subject to}\quad \|\eta\|_p\le\varepsilon, \tag{9}$$

    where $J=J_f(x)$ has $m$ rows and $d$ columns $j_1,\dots,j_d$. The optimum is $\varepsilon$ times the *operator
    norm* $\|J\|_{p\to2}$. Now a convex function is **maximized**, and the maximum is at an extreme point of the ball.
    For $p=1$ these are $\pm\varepsilon e_i$, so the longest column wins. For $p=2$ it is the top singular vector. For
    $p=\infty$ they are the $2^d$ corners of the cube, and the problem is NP-hard.

    ## The relaxation

    Let $\varepsilon=1$ and $X=\eta\eta^\top$. Then $\|J\eta\|_2^2=\langle J^\top J, X\rangle$ and
    $X_{ii}=\eta_i^2\le1$. What is hard is that $X$ has rank one. Leave it out:

    $$\text{maximize } \langle J^\top J,X\rangle \quad\text{subject to}\quad X\succeq0,\;\; X_{ii}\le1.
    \qquad (d\times d)$$

    The paper says of it that it "scales badly with input dimension", and so it does: $X$ has $d(d+1)/2$ unknowns. But
    $J^\top J$ has only rank $m$, so most of $X$ is idle. Four lines remove it.

    1. **Dual:** minimize $\sum_i y_i$ subject to $\operatorname{Diag}(y)\succeq J^\top J$.
    2. **Schur complement:** for $y>0$ this says $J\operatorname{Diag}(1/y)J^\top\preceq I$, an $m\times m$ matrix.
       Scaled freely: minimize $\lambda_{\max}(J\operatorname{Diag}(1/y)J^\top)\sum_i y_i$.
    3. **Minimax:** $\lambda_{\max}(A)$ is the maximum of $\langle W,A\rangle$ over $W\succeq0$, $\operatorname{tr}W=1$,
       and $\langle W,J\operatorname{Diag}(1/y)J^\top\rangle=\sum_i s_i^2/y_i$ with $s_i^2=j_i^\top W j_i$. Exchange min
       and max.
    4. **Cauchy and Schwarz:** $\left(\sum_i s_i\right)^2\le\left(\sum_i s_i^2/y_i\right)\left(\sum_i y_i\right)$, with
       equality for $y_i=s_i$. So the minimum over $y$ is $\left(\sum_i s_i\right)^2$.

    The bound on the norm, the square root of the value above, is therefore

    $$\max\left\{\sum_{i=1}^d\sqrt{j_i^\top W j_i} \;:\; W\succeq0,\;\operatorname{tr}W=1\right\}. \qquad (m\times m)$$

    It is concave in $m(m+1)/2$ unknowns, whatever $d$ is. (The square matters: $(d\times d)$ bounds $\|J\eta\|_2^2$,
    $(m\times m)$ bounds $\|J\eta\|_2$.)
    """)
    return


@app.cell
def _():
    import math
    import time

    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np
    import torch

    import convexattack as ca
    from convexattack import datasets, models
    from convexattack.testing import check_step

    return ca, check_step, datasets, math, mo, models, np, plt, time, torch


@app.cell
def _(ca, datasets, math, models, time):
    model, image = models.load("digits").double(), datasets.load("digits", limit=1).x.double()
    J = ca.jacobian(model, image)  # (1, 10, 64): ten scores, 64 pixels
    ball = ca.Ball(ca.Lp(math.inf), 0.1)

    for _d in (16, 32, 64):
        _program = ca.OperatorNorm(J[..., 32 - _d // 2 : 32 + _d // 2], ball)  # the pixels in the middle
        _start = time.perf_counter()
        _small = ca.certify(_program, ca.solve(_program)).dual.item()  # m × m
        _seconds = time.perf_counter() - _start
        print(f"d = {_d}: m × m {_small:.6f}, 55 unknowns, {_seconds:.2f} s", end="")
        if _d < 64:
            _start = time.perf_counter()
            _square = _program.problem(0, form="primal").solve(solver="CLARABEL")  # d × d, in CVXPY
            _seconds = time.perf_counter() - _start
            _unknowns = _d * (_d + 1) // 2
            print(f"   d × d {math.sqrt(_square):.6f}, {_unknowns} unknowns, {_seconds:.2f} s", end="")
        print()
    return J, ball


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    One value from two programs: $m\times m$ by the library's own Newton method, $d\times d$ by Clarabel through CVXPY
    (times are of this run). The $d\times d$ one is already slow at $d=64$ and left out there.

    ## The picture: W lives in a disk

    For $m=2$ a matrix $W\succeq0$ with trace one is $\frac12\begin{pmatrix}1+a&b\\b&1-a\end{pmatrix}$ with
    $a^2+b^2\le1$: a point of a disk. Matrices of rank one, $W=ww^\top$, are its **rim**, and there the function is
    $\sum_i|j_i^\top w|=\|J^\top w\|_1$: since $\max_{\|\eta\|_\infty\le1}w^\top J\eta=\|J^\top w\|_1$, the best point
    of the rim is the norm itself, and the best point of the disk is the relaxation. The gap between the two is the
    price of tractability.
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    columns = mo.ui.slider(2, 12, value=6, label="columns d", show_value=True)
    seed = mo.ui.slider(0, 20, value=7, label="random J, number", show_value=True)
    mo.hstack([columns, seed], justify="start")
    return columns, seed


@app.cell(hide_code=True)
def _(ca, math, np, torch):
    def disk(axes, matrix):
        """Σ_i (j_iᵀWj_i)^{1/2} over the disk of W, its maximum, and the maximum over the rim."""
        a, b = np.meshgrid(np.linspace(-1, 1, 241), np.linspace(-1, 1, 241))
        u, v = matrix[0][:, None, None], matrix[1][:, None, None]
        height = np.sqrt(np.maximum(((1 + a) * u * u + 2 * b * u * v + (1 - a) * v * v) / 2, 0)).sum(0)
        axes.contourf(a, b, np.where(a * a + b * b <= 1, height, np.nan), levels=24, cmap="Blues")
        angle = np.linspace(0, 2 * math.pi, 1441)
        rim = np.abs(np.cos(angle / 2) * matrix[0][:, None] + np.sin(angle / 2) * matrix[1][:, None]).sum(0)
        axes.plot(np.cos(angle), np.sin(angle), "k", lw=1)
        best = angle[rim.argmax()]
        axes.plot(math.cos(best), math.sin(best), "o", color="C3", ms=8, clip_on=False)
        program = ca.OperatorNorm(torch.from_numpy(matrix)[None], ca.Ball(ca.Lp(math.inf), 1.0))
        solution = ca.solve(program)
        factor = solution.multipliers[1][0].numpy()
        W = factor @ factor.T / (factor**2).sum()
        axes.plot(W[0, 0] - W[1, 1], 2 * W[0, 1], "*", color="k", ms=11, clip_on=False)
        bracket = ca.certify(program, solution)
        axes.set(
            aspect="equal",
            title=f"{matrix.shape[1]} columns: norm {bracket.primal.item():.3f} ≤ bound {bracket.dual.item():.3f}",
        )
        axes.set_axis_off()

    return (disk,)


@app.cell(hide_code=True)
def _(columns, disk, np, plt, seed):
    # The disk of all W for a random J of two rows: star, the relaxation; red dot, the norm, on the rim
    _figure, _axes = plt.subplots(figsize=(4, 4), layout="constrained")
    disk(_axes, np.random.default_rng(seed.value).normal(size=(2, columns.value)))
    _figure
    return


@app.cell(hide_code=True)
def _(disk, np, plt):
    # Two orthogonal columns: a whole diameter is optimal, rank one at its ends. Six random ones: a gap. One dominant
    # direction: no gap
    _random = np.random.default_rng(3)
    _long = _random.normal(size=(2, 8)) * np.array([[3.0], [0.3]])
    _figure, _axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    for _ax, _matrix in zip(_axes, (np.eye(2), _random.normal(size=(2, 6)), _long), strict=True):
        disk(_ax, _matrix)
        _ax.title.set_fontsize(10)
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Back to a perturbation, and a bracket

    From $W$ to an $\eta$: draw $w$ from the Gaussian with covariance $W$ and take
    $\eta=\varepsilon\operatorname{sign}(J^\top w)$. On average its value is at least $\sqrt{2/\pi}\approx0.80$ times
    the bound (Nesterov). Then alternate $w=J\eta/\|J\eta\|$ and the same step; this never goes down. What comes out is
    a *bracket*: below, a point that anyone can evaluate; above, a vector $y$ that anyone can put into
    $\lambda_{\max}(J\operatorname{Diag}(1/y)J^\top)\sum y_i$. For $16$ pixels all signs can be tried, and show where in
    the bracket the truth is.
    """)
    return


@app.cell
def _(J, ball, ca, torch):
    whole = ca.OperatorNorm(J, ball)
    _bracket = ca.certify(whole, ca.solve(whole))
    print(
        f"64 pixels: {_bracket.primal.item():.4f} ≤ optimum ≤ {_bracket.dual.item():.4f}, proved:",
        _bracket.holds().item(),
    )

    part = ca.OperatorNorm(J[..., 24:40], ball)
    _solution = ca.solve(part)
    _bracket = ca.certify(part, _solution)
    _exact = ca.solve(part, solver="enumeration")
    print(f"16 pixels: {_bracket.primal.item():.4f} ≤ optimum ≤ {_bracket.dual.item():.4f};", end=" ")
    print(f"all 65,536 corners say {ca.certify(part, _exact).primal.item():.4f}")

    _y = _solution.multipliers[0][0]
    _J = J[0][:, 24:40]
    _by_hand = 0.1 * (torch.linalg.eigvalsh(_J / _y @ _J.T)[-1] * _y.sum()).sqrt().item()
    print(f"the upper end by hand, from y alone: {_by_hand:.4f}")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Never report one number for an NP-hard problem: the bracket is the honest answer.

    ## Exercise: the half-step of the alternation

    The alternation works for every $p$. Given $w$, it needs the $\eta$ of the ball that **maximizes** $w^\top J\eta$.
    That is (GNII) with $L=0$ and $g=-J^\top w$, so `check_step` can judge it. Take $p=3$. The step below points along
    $J^\top w$ and has length $\varepsilon$ in the right norm; for $p=2$ it would be right. **Mend it.**
    """)
    return


@app.cell
def _():
    def step(gradient, radius):
        """g = −Jᵀw (N, d), radius → η (N, d) with ‖η‖₃ ≤ radius and gᵀη as small as possible."""
        length = gradient.abs().pow(3).sum(-1, keepdim=True).pow(1 / 3)
        return -radius * gradient / length

    return (step,)


@app.cell
def _(ca, check_step, step):
    try:
        check_step(step, ca.GNII, norm=ca.Lp(3), tolerance=ca.Tolerance())
        verdict = "Proved: the alternation climbs as steeply as the ball allows. Well done."
    except AssertionError as refuted:
        verdict = f"Not yet. {refuted}"
    print(verdict)
    return (verdict,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    <details><summary>A solution</summary><p>Equation (6) with q = 3/2, after division by the largest entry, so that no
    power overflows.</p>
    <pre><code>def step(gradient, radius):
        largest = gradient.abs().amax(-1, keepdim=True)
        h = gradient / torch.where(largest &gt; 0, largest, 1)
        size = h.abs().sqrt()
        length = size.pow(3).sum(-1, keepdim=True).pow(1 / 3)
        return -radius * h.sign() * size / torch.where(length &gt; 0, length, 1)
    </code></pre></details>
    """)
    return


if __name__ == "__main__":
    app.run()
