"""`convexattack explain`: a derivation with the reader's own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convexattack.cli.terminal import number, sentences, words

if TYPE_CHECKING:
    from convexattack.files import AnyProgram

__all__ = ["explain"]

NAMES = "gn, gnii, min-norm or operator-norm"


def explain(
    name: Annotated[str | None, typer.Argument(metavar="PROGRAM", help=f"{NAMES}; left out with --problem.")] = None,
    gradient: Annotated[
        str | None, typer.Option("--gradient", "-g", metavar="G", help="g = ∇L, with commas between: 3,-4.")
    ] = None,
    value: Annotated[float | None, typer.Option(metavar="L", help="L at the image.")] = None,
    norm: Annotated[str | None, typer.Option(metavar="P", help="p of ‖η‖_p, a number in [1, inf].")] = None,
    radius: Annotated[float | None, typer.Option(metavar="E", help="ε: ‖η‖_p ≤ ε; min-norm has none.")] = None,
    lower: Annotated[str | None, typer.Option(help="Lower bound on η: a number, or one for each coordinate.")] = None,
    upper: Annotated[str | None, typer.Option(help="Upper bound on η, likewise.")] = None,
    jacobian: Annotated[
        str | None,
        typer.Option("--jacobian", "-j", metavar="J", help="Of operator-norm: rows with semicolons between: 1,2;3,4."),
    ] = None,
    problem: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Take the numbers from a problem.npz (or solution.npz) instead."),
    ] = None,
    item: Annotated[int, typer.Option(metavar="I", help="Which item of the file, counted from 0.")] = 0,
    form: Annotated[
        str, typer.Option("--format", help="terminal, markdown (for GitHub and notebooks) or latex (a whole document).")
    ] = ("terminal"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file instead of the screen.")
    ] = None,
) -> None:
    """Derive the solution of one program with numbers of yours, step by step.

    The program, its Lagrangian, its dual, its optimum, which inequality is tight, and the certificate: each formula in
    letters first, then with the numbers.

    \b
      convexattack explain gnii --norm 2 --radius 0.5 --gradient 3,4 --value 1
      convexattack explain gn --norm inf --radius 0.1 --gradient=-1,2,0.5 --value 0.35
      convexattack explain min-norm --norm 1.5 --gradient 3,-4 --value 2.5
      convexattack explain operator-norm --norm inf --radius 0.5 --jacobian "1,2;3,-4"

    gn, gnii and min-norm take a box as well, one bound for all coordinates or for each; inf and -inf leave a side open:

    \b
      convexattack explain gnii --norm 2 --radius 1 --gradient 3,4 --value 0 --lower=-0.6 --upper 0.6
      convexattack explain min-norm --norm 2 --gradient 1,1 --value 3 --lower=-1,-inf --upper inf

    Or take one item of an archive (`convexattack solve --help` lists its arrays), and write a document:

    \b
      convexattack explain --problem problem.npz --item 2
      convexattack explain gnii --norm 3 --radius 1 -g 4,-1 --value 0 --format latex -o proof.tex

    Numbers are shown to six digits, ≈ where that rounds them, and long vectors by their ends. Exit status 1 if the
    claim is not proved, 3 if it is but for rounding or a tolerance; the last step says why.
    """
    with sentences():
        given = {
            "gradient": gradient, "value": value, "norm": norm, "radius": radius, "lower": lower, "upper": upper,
            "jacobian": jacobian,
        }  # fmt: skip
        from convexattack.explain import FORMATS

        if form not in FORMATS:
            raise ValueError(f"format {form!r} is unknown: use one of {', '.join(FORMATS)}")
        program = _read(problem, item, name, given) if problem is not None else _program(name, item, given)
        from convexattack.certificates import Tolerance
        from convexattack.explain import explain as run
        from convexattack.files import atomically, check_writable

        if output is not None:
            check_writable(output)
        found = run(program, item)
        text = found.render(form)
        if output is None:
            print(text, end="")
        else:
            with atomically(output) as part:
                part.write_text(text, encoding="utf-8")
            print(f"{output}: {found.status.name}, {len(found.steps)} steps")
        near = bool(found.certificate.holds(Tolerance())[0])
        raise typer.Exit(0 if found.proved else 3 if near else 1)


def _read(path: Path, item: int, name: str | None, given: dict[str, Any]) -> AnyProgram:
    from convexattack.files import read_problem

    extra = (
        "PROGRAM" if name is not None else next((f"--{key}" for key, entry in given.items() if entry is not None), None)
    )
    if extra is not None:
        raise ValueError(f"{extra} and --problem {path} both say what to explain: leave one of them out")
    program = read_problem(path)
    if not 0 <= item < len(program):
        raise ValueError(f"item {item} is not in {path}, which has {len(program)}: give --item 0 to {len(program) - 1}")
    return program


def _program(name: str | None, item: int, given: dict[str, Any]) -> AnyProgram:
    import torch

    from convexattack.files import PROGRAMS, built

    if name is None:
        raise ValueError(f"PROGRAM is missing: give {NAMES}, or --problem FILE.npz")
    if name not in PROGRAMS:
        raise ValueError(f"PROGRAM {name!r} is unknown: use one of {', '.join(PROGRAMS)}")
    if item != 0:
        raise ValueError(f"item {item} has no meaning without --problem: leave it out")
    needed = {"jacobian", "norm"} if name == "operator-norm" else {"value", "gradient", "norm"}
    for key in ("jacobian", "gradient", "value", "norm"):
        if key in needed and given[key] is None:
            raise ValueError(f"{key} is missing: {name} needs --{key}, see convexattack explain --help")
        if key not in needed and given[key] is not None:
            raise ValueError(f"{key} {given[key]} has no place in {name}: leave it out")
    fields: dict[str, Any] = {"program": name, "p": number("norm", given["norm"], "p in [1, inf], such as 2 or inf")}
    if given["radius"] is not None:
        fields["radius"] = given["radius"]
    if name == "operator-norm":
        rows = [_numbers("jacobian", row) for row in given["jacobian"].split(";") if row.strip()]
        if len({len(row) for row in rows}) != 1:
            raise ValueError(f"jacobian {given['jacobian']!r} has no rows of one length: give it as 1,2;3,4")
        return built(fields | _bounds(given, len(rows[0])), {"jacobian": torch.tensor([rows], dtype=torch.float64)})
    g = _numbers("gradient", given["gradient"])
    data = {
        "value": torch.tensor([given["value"]], dtype=torch.float64),
        "gradient": torch.tensor([g], dtype=torch.float64),
    }
    return built(fields | _bounds(given, len(g)), data)


def _bounds(given: dict[str, Any], d: int) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    for key in ("lower", "upper"):
        if given[key] is not None:
            entries = _numbers(key, given[key])
            if len(entries) not in (1, d):
                raise ValueError(
                    f"{key} {given[key]!r} has {len(entries)} numbers: give one, or one for each of the {d} coordinates"
                )
            found[key] = entries[0] if len(entries) == 1 else torch.tensor([entries], dtype=torch.float64)
    return found


def _numbers(name: str, text: str) -> list[float]:
    return [number(name, word, "numbers with commas between, such as 3,-4") for word in words(name, text)]
