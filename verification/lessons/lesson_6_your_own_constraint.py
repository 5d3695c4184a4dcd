import marimo

app = marimo.App(app_title="Lesson 6: adding your own constraint")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Lesson 6: adding your own constraint

    The paper's point about (GNII) is that "one can incorporate other convex constraints into it". So let us: find the
    best perturbation that does **not change the brightness** of the image,

    $$\text{minimize } L+g^\top\eta\quad\text{subject to}\quad \|\eta\|_p\le\varepsilon,\;\; \textstyle\sum_i\eta_i=0.$$

    ## In one line

    A set is anything that CVXPY can write about a variable of shape `(d,)`:
    """)
    return


@app.cell
def _():
    import math

    import cvxpy as cp
    import marimo as mo
    import matplotlib.pyplot as plt
    import torch

    import convexattack as ca
    from convexattack import datasets, models
    from convexattack.testing import check_step

    return ca, check_step, cp, datasets, math, mo, models, plt, torch


@app.cell
def _(ca, cp, datasets, math, models):
    model, image = models.load("digits").double(), datasets.load("digits", limit=17).x[16:].double()
    lin = ca.linearize(model, image)
    piece = (lin.value / ca.Lp(math.inf).dual(lin.gradient)).argmin()
    L, g = lin.value[:, piece], lin.gradient[:, piece]

    same_brightness = ca.CustomSet(lambda eta: [cp.sum(eta) == 0])
    cube = ca.Ball(ca.Lp(math.inf), 0.1)
    free = ca.GNII(L, g, (cube,))
    program = ca.GNII(L, g, (cube, same_brightness))
    solution = ca.solve(program)  # no closed form is known for these sets: CVXPY solves it
    certificate = ca.certify(program, solution)
    print(f"without the constraint {ca.certify(free, ca.solve(free)).primal.item():.4f}")
    print(f"with it {certificate.primal.item():.4f}; no η goes below {certificate.dual.item():.4f}")
    print("proved:", certificate.holds().item(), "  rigorous:", certificate.rigorous)
    print(f"sum of η: {solution.eta.sum().item():.1e}")
    return L, certificate, g, image, model, program, same_brightness, solution


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Where the proof comes from

    For sets $C_1,\dots,C_k$ with support functions $\sigma_j(v)=\sup_{\eta\in C_j}v^\top\eta$, and for **any**
    $v_1,\dots,v_k$ with $\sum_jv_j=-g$,

    $$L+g^\top\eta = L-\sum_j v_j^\top\eta \;\ge\; L-\sum_j\sigma_j(v_j)
    \qquad\text{for every }\eta\in C_1\cap\dots\cap C_k.$$

    One line, and all that a set has to bring is its support function. `rigorous=False` above says that for a
    `CustomSet` CVXPY had to be asked for it, so the bound leans on a numerical solver. For our set we can do better:

    $$\sigma(v)=\sup\{v^\top\eta:\textstyle\sum_i\eta_i=0\}=\begin{cases}0&\text{if all } v_i \text{ are equal}\\
    \infty&\text{otherwise.}\end{cases}$$

    So $v_2=-\nu\mathbf 1$, $v_1=-(g-\nu\mathbf 1)$, and the best bound is a problem in **one** number:

    $$\max_\nu\; L-\varepsilon\|g-\nu\mathbf 1\|_q.$$

    For $p=\infty$, $q=1$: the $\nu$ that minimizes $\sum_i|g_i-\nu|$ is the **median** of $g$. For $p=2$ it is the
    **mean**.
    """)
    return


@app.cell
def _(L, certificate, g, solution):
    _nu = g.quantile(0.5)
    _bound = L - 0.1 * (g - _nu).abs().sum()
    print(f"bound, ν = median of g: {_bound.item():.6f}; CVXPY's bound: {certificate.dual.item():.6f}")
    _v, _sorted = solution.multipliers[1][0], g[0].sort().values
    print(f"CVXPY's multiplier: ν from {-_v.max():.3f} to {-_v.min():.3f};", end=" ")
    print(f"the two middle entries of g: {_sorted[31]:.3f} and {_sorted[32]:.3f}")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Any $\nu$ between the two middle entries is optimal, and all of them prove the same bound. The constraint costs the
    attacker three per cent of the decrease. This is the whole recipe: **one line for the program, one support function
    for the proof.**

    ## In the picture
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    radius = mo.ui.slider(0.02, 0.2, 0.02, value=0.1, label="ε", show_value=True)
    radius
    return (radius,)


@app.cell(hide_code=True)
def _(L, ca, g, image, math, model, same_brightness, torch):
    def compare(axes, epsilon):
        """The best η without and with the constraint, and what the network says to them."""
        for k, sets in enumerate(((), (same_brightness,))):
            program = ca.GNII(L, g, (ca.Ball(ca.Lp(math.inf), epsilon), *sets))
            eta = ca.solve(program).eta
            with torch.no_grad():
                says = model(image + eta.view_as(image)).argmax().item()
            axes[k].imshow(eta.view(8, 8).numpy(), cmap="RdBu_r", vmin=-0.2, vmax=0.2)
            what = "same brightness" if k else "free"
            axes[k].set_title(
                f"{what}, ε = {epsilon:.2f}\nsum {round(eta.sum().item(), 2) + 0.0:+.2f}, network: {says}", fontsize=9
            )
            axes[k].set_axis_off()

    return (compare,)


@app.cell(hide_code=True)
def _(compare, plt, radius):
    # The best η (red up, blue down) without and with the constraint
    _figure, _axes = plt.subplots(1, 2, figsize=(4.6, 2.7), layout="constrained")
    compare(_axes, radius.value)
    _figure
    return


@app.cell(hide_code=True)
def _(compare, plt):
    # The same for a small and a large ε
    _figure, _axes = plt.subplots(1, 4, figsize=(9, 2.7), layout="constrained")
    compare(_axes[:2], 0.04)
    compare(_axes[2:], 0.16)
    _figure
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Sets add up

    The pixels have a range too, $0\le x+\eta\le1$. For this one the library knows the closed form, and together with
    ours CVXPY again. The certificate judges each in the same way; nothing else changes.
    """)
    return


@app.cell
def _(L, ca, g, image, math, same_brightness):
    pixels = ca.PixelRange(0.0, 1.0).at(image)  # a box around this image
    _choices = {"pixel range": (pixels,), "same brightness": (same_brightness,), "both": (pixels, same_brightness)}
    for _name, _sets in _choices.items():
        _program = ca.GNII(L, g, (ca.Ball(ca.Lp(math.inf), 0.1), *_sets))
        _certificate = ca.certify(_program, ca.solve(_program))
        _proved = _certificate.holds().item()
        print(
            f"{_name:16} primal {_certificate.primal.item():8.4f}  dual {_certificate.dual.item():8.4f}  proved: "
            f"{_proved}"
        )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Constraints cost the attacker something, each in the currency of its own multiplier. Next ones to try:
    `eta[mask] == 0` (a patch), `A @ eta <= b`, and, for a smooth one, `cp.tv(cp.reshape(eta, (8, 8), order="C")) <= 1`.

    ## Exercise: first the ball, then the constraint

    $p=1$ and bounds $l\le\eta\le u$ with $l\le0\le u$, as a pixel range gives them. The step below takes the best
    $\eta$ of the ball (lesson 3: all of $\varepsilon$ to one pixel) and clips it to the bounds. The result is in both
    sets. It is what most libraries do: solve for one set, then project or clip. **Is it optimal? Mend `step`.** (A
    pixel that has reached its bound leaves a part of $\varepsilon$ unused. Who should get it?)
    """)
    return


@app.cell
def _(torch):
    def step(gradient, radius, lower, upper):
        """gradient, lower, upper (N, d) → η (N, d) with ‖η‖₁ ≤ radius, lower ≤ η ≤ upper and the smallest gᵀη."""
        largest = gradient.abs().argmax(-1, keepdim=True)
        eta = torch.zeros_like(gradient).scatter(-1, largest, -radius * gradient.gather(-1, largest).sign())
        return eta.clamp(lower, upper)

    return (step,)


@app.cell
def _(ca, check_step, step):
    try:
        check_step(step, ca.GNII, norm=ca.Lp(1), sets=(ca.Box,), tolerance=ca.Tolerance())  # boxes are drawn, too
        verdict = "Proved: two constraints, one closed form. Well done."
    except AssertionError as refuted:
        verdict = f"Not yet. {refuted}"
    print(verdict)
    return (verdict,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    <details><summary>A solution</summary><p>A knapsack: fill the pixels in the order of |g|, each to its bound, until
    ε is used up.</p>
    <pre><code>def step(gradient, radius, lower, upper):
        room = torch.where(gradient &gt; 0, -lower, upper).clamp(max=radius)  # how far each pixel may go downhill
        order = gradient.abs().argsort(-1, descending=True)
        room = room.gather(-1, order)
        used = room.cumsum(-1) - room
        size = torch.minimum(room, (radius - used).clamp(min=0))
        return -gradient.sign() * torch.zeros_like(gradient).scatter(-1, order, size)
    </code></pre></details>
    """)
    return


if __name__ == "__main__":
    app.run()
