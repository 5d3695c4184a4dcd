"""The command line: parse, one public call, print or save. Commands import what they need, so that --help is quick."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from convexattack.cli.attack import attack, curve, measure
from convexattack.cli.explain import explain
from convexattack.cli.numbers import certify, solve
from convexattack.cli.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    name="convexattack",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def main() -> None:
    """The console script."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"convexattack {version('convexattack')}")
        except PackageNotFoundError:
            print("convexattack, not installed (run from its source)")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Adversarial perturbations as convex programs, solved twice and certified.

    A network's loss L is linearized at an image x, equation (1): L(x + η) ≈ L + gᵀη with g = ∇L(x), or its outputs f
    themselves: f(x + η) ≈ f(x) + Jη with J = J_f(x). Four programs then look for the perturbation η:

    \b
      gn             (GN)    is there an η with L + gᵀη < 0 and ‖η‖_p ≤ ε?  By Proposition 1: if and only if ε‖g‖_q > L.
      gnii           (GNII)  minimize L + gᵀη subject to ‖η‖_p ≤ ε: the best perturbation; Proposition 2, (6) and (7).
      min-norm       (8)     minimize ‖η‖_p subject to L + gᵀη ≤ 0: the smallest perturbation.
      operator-norm  (9)     maximize ‖Jη‖₂ subject to ‖η‖_p ≤ ε: the largest change of outputs, in a certified bracket.

    The first three may confine η to a box as well. `verify` does all of it on a real network, by closed form (for (9)
    with p > 2 by Newton steps on its relaxation) and by CVXPY; `solve` and `certify` do it on numbers of yours, without
    a network; `explain` derives the solution with them, step by step.

    `attack` takes the programs to a network of yours, step by step, and keeps the perturbed images; `measure` and
    `curve` say how robust the network is: ρ₁, ρ₂, fooling ratios over radii. What they prove is about the linear model,
    what they count about the network.

    Exit status: 0 all is proved; 1 something is not; 2 an argument is wrong, with one sentence that says how; 130
    interrupted.
    """


for command in (verify, solve, certify, explain, attack, measure, curve):
    app.command()(command)
