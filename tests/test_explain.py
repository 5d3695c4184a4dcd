"""`explain`: every number on the page is the certificate's, every equation holds, all three formats are well formed."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from examples import DTYPES, GOLDEN, INF, Golden, ball, box, gn, gnii, min_norm, normal, numbers, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_cli import refused, run

import convexattack as ca
from convexattack.explain import Step
from convexattack.explain.notation import (
    apart,
    broken,
    latex,
    marked,
    matrix,
    n,
    outwards,
    plain,
    relate,
    stacked,
    vector,
)
from convexattack.testing import programs

NORMS = (1, 1.5, 2, 3, INF)
SHOWN, EQUAL = 1e-4, 1e-9  # what ≈ forgives (six digits, some of them multiplied up), and what = does
WORDS = {"find", "minimize", "maximize", "subject to", "a contradiction", "NaN"}  # that formulas hold
FUNCTIONS = {"clip": lambda x, low, high: min(max(x, low), high), "max": max, "__builtins__": {}}


# --- reading a page back


def value(text: str) -> float | None:
    """What a text of numbers is worth; None for one that holds letters."""
    code = (
        text.replace("−", "-")
        .replace("·", "*")
        .replace("∞", "inf")
        .replace("{", "(")
        .replace("}", ")")
        .replace("^", "**")
    )
    if re.search(r"[^\d\s.()*/+,-]", re.sub(r"clip|max|inf", "", code)) or not re.search(r"\d|inf", code):
        return None
    code = code.replace("0**", "0.0**")
    found = eval(code, dict(FUNCTIONS), {"inf": math.inf})
    return float(found) if isinstance(found, int | float) else None


def equations(formula: str) -> list[tuple[float, str, float, float]]:
    """(left, relation, right, size of what was summed) of all that a formula says about numbers alone."""
    found = []
    for clause in re.split(r"  |:  ", plain(formula).replace("{", "(").replace("}", ")")):
        parts = re.split(r" ([=≈≤≥<>]) ", clause.rstrip(","))
        for left, relation, right in zip(parts[::2], parts[1::2], parts[2::2], strict=False):
            a, b = value(left), value(right)
            if a is not None and b is not None:
                size = max(abs(value(side.replace("−", "+").replace("(+", "(")) or 0.0) for side in (left, right))
                found.append((a, relation, b, size))
    return found


def entries(formula: str) -> list[float]:
    """The numbers of the vector that a formula ends in."""
    inside = re.split(" [=≈] ", plain(formula))[-1].strip("()")
    return [number for word in inside.split(", ") if (number := value(word)) is not None]


def true(page: ca.Explanation) -> None:
    """Every relation between numbers on the page holds."""
    for step in page.steps:
        for formula in step.formulas:
            for a, relation, b, size in equations(formula):
                slack = (SHOWN if relation == "≈" else EQUAL) * max(abs(a), abs(b), size)
                holds = {"≤": a <= b + slack, "<": a < b + slack, "≥": a >= b - slack, ">": a > b - slack}
                close = (
                    a == b or abs(a - b) <= slack or (relation == "≈" and 0 in (a, b))
                )  # ≈ 0: beside what it is a difference of
                assert holds.get(relation, close), (step.title, formula, a, relation, b)


def well_formed(page: ca.Explanation) -> None:
    """Braces, environments and dollars pair up; nothing but ASCII in LaTeX; Markdown leaves every formula alone."""
    tex, markdown, text = page.latex(), page.markdown(), page.terminal()
    assert "`" not in tex + markdown + text
    assert "~" not in tex + markdown + text
    assert set(re.findall(r"[^\x00-\x7f]", tex)) <= {"ö"}
    depths = list(itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in tex))
    assert min(depths) == 0
    assert depths[-1] == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", tex):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    assert tex.count(r"\[") == tex.count(r"\]") == sum(bool(step.formulas) for step in page.steps)
    assert {word.strip() for word in re.findall(r"\\text\{([^}]*)\}", tex)} <= WORDS
    assert tex.count("$") % 2 == 0
    blocks = markdown.split("$$")
    assert len(blocks) % 2 == 1
    html = MarkdownIt().render(markdown)
    assert not re.search(r"<(em|strong|a|code)\b", html)
    plainly = html.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    for prose in blocks[::2]:
        assert prose.count("$") % 2 == 0
        for formula in re.findall(r"\$([^$]*)\$", prose):
            assert formula == formula.strip() != ""
            assert formula in plainly
    assert all(block in plainly for block in blocks[1::2])
    assert max(len(line) for line in text.splitlines() if not line.startswith("      ")) <= 110


def dual_of(page: ca.Explanation) -> Step | None:
    return next((step for step in page.steps if "dual" in step.values and "primal" not in step.values), None)


def faithful(page: ca.Explanation) -> None:
    """The bound on the page, derived by hand, and the verdict are the certificate's; the η on it is the solution's."""
    last, eta = page.steps[-1], page.solution.eta[0].to(torch.float64)
    assert isinstance(page.certificate, ca.ExactCertificate)
    proof = page.certificate.proofs[0]
    derived = dual_of(page)
    if last.title != "The certificate":
        assert page.status in (ca.Status.INVALID, ca.Status.UNBOUNDED, ca.Status.FAILED)
        assert page.status.name in last.words
        return
    assert f"{proof.verdict.name}: " in last.words
    assert page.status.name in last.words
    primal, dual = (float(getattr(page.certificate, name)[0]) for name in ("primal", "dual"))
    assert last.values["primal"] == primal or math.isnan(primal)
    if derived is None:
        assert page.status is ca.Status.INFEASIBLE
        assert bool(eta.isnan().any())
        return
    scale = max(abs(primal), abs(dual), *(abs(x) for x in derived.values.values()), 1e-300)
    assert abs(derived.values["dual"] - dual) <= 1e-8 * scale
    shown = plain(derived.formulas[-1]).replace("{", "(").replace("}", ")")
    number = value(re.split(" [=≈] ", shown)[-1])
    assert number is not None
    assert abs(number - dual) <= 1e-5 * scale
    formula = next(formula for step in page.steps for formula in step.formulas if re.match("η [=≈] \\(", formula))
    there = eta.tolist() if len(eta) <= 6 else [*eta[:3].tolist(), *eta[-2:].tolist()]
    assert np.allclose(entries(formula), there, rtol=1e-5, atol=0)


def judged(page: ca.Explanation) -> None:
    true(page)
    well_formed(page)
    faithful(page)


# --- programs, drawn and known


@st.composite
def linear(draw: st.DrawFn) -> ca.Program:
    """Any of the three, p of five norms, with a box or without; ties, zeros, radius 0, empty and one-sided boxes."""
    d = draw(st.integers(1, 8))
    coarse = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]) | st.floats(-2, 2, width=16)
    vectors = st.lists(coarse, min_size=d, max_size=d)
    g, L, p = draw(vectors), draw(coarse), draw(st.sampled_from(NORMS))
    sets: list[ca.ConvexSet] = []
    ends = st.lists(st.sampled_from([0.0, 0.25, 1.0, INF]), min_size=d, max_size=d)
    kind = draw(st.sampled_from(["none", "none", "around", "around", "anywhere"]))
    if kind != "none":
        low = [-x for x in draw(ends)] if kind == "around" else draw(vectors)
        sets.append(box(low, [a + b if kind == "anywhere" else b for a, b in zip(low, draw(ends), strict=True)]))
    name = draw(st.sampled_from(["gn", "gnii", "min-norm"]))
    if name == "min-norm":
        return min_norm(L, g, p, *sets)
    return (gn if name == "gn" else gnii)(L, g, ball(p, draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))), *sets)


@given(linear())
@settings(max_examples=100)
def test_a_drawn_program_is_explained_truly(program: ca.Program) -> None:
    judged(ca.explain(program))


@given(st.data())
@settings(max_examples=25)
def test_a_drawn_operator_norm_is_explained_truly(data: st.DataObject) -> None:
    m, d, p = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8)), data.draw(st.sampled_from(NORMS))
    entry = st.sampled_from([-2.0, -1.0, 0.0, 0.0, 1.0, 3.0]) | st.floats(-2, 2, width=16)
    J = torch.tensor([[[data.draw(entry) for _ in range(d)] for _ in range(m)]], dtype=torch.float64)
    judged(ca.explain(ca.OperatorNorm(J, ball(p, data.draw(st.sampled_from([0.0, 0.5, 1.0]))))))


@given(programs(dtypes=DTYPES))
@settings(max_examples=30)
def test_any_dtype_and_scale_is_explained(program: ca.Program) -> None:
    kinds = [type(item) for item in program.sets]
    if (
        kinds in ([], [ca.Box])
        if isinstance(program, ca.MinNorm)
        else kinds in ([ca.Ball], [ca.Box], [ca.Ball, ca.Box])
    ):
        for i in range(len(program)):
            page = ca.explain(program, i)
            well_formed(page)
            assert page.status in (ca.solve(program).status[i], ca.Status.INEXACT, ca.Status.OPTIMAL)


def single(golden: Golden) -> bool:
    kinds = [type(item) for item in golden.program.sets]
    return (
        kinds in ([], [ca.Box])
        if isinstance(golden.program, ca.MinNorm)
        else kinds in ([ca.Ball], [ca.Box], [ca.Ball, ca.Box])
    )


@pytest.mark.parametrize("golden", [golden for golden in GOLDEN if single(golden)], ids=repr)
def test_a_known_program_is_explained_truly(golden: Golden) -> None:
    page = ca.explain(golden.program)
    judged(page)
    assert page.status is golden.status or "touches" in golden.name
    if golden.status is ca.Status.OPTIMAL and "touches" not in golden.name:
        derived = dual_of(page)
        assert derived is not None
        assert derived.values["dual"] == pytest.approx(golden.optimum, rel=1e-9, abs=1e-9)
        assert page.proved


def titles(page: ca.Explanation) -> list[str]:
    return [step.title for step in page.steps]


def test_the_steps_of_the_paper() -> None:
    page = ca.explain(gnii(1, [3, 4], ball(2, 0.5)))
    assert titles(page) == [
        "The program, (GNII)", "The Lagrangian", "The dual", "The optimum", "Which inequality is tight",
        "The certificate",
    ]  # fmt: skip
    text = str(page)
    for line in (
        "L + gᵀη ≥ L − ε‖g‖_2 = 1 − 0.5·5 = −1.5",
        "μ = ‖g‖_2 = (3^2 + 4^2)^{1/2} = 5",
        "η_1 = −0.5·(3/5)^1 = −0.3",
        "η_2 = −0.5·(4/5)^1 = −0.4",
        "(|η_i|/‖η‖_2)^2 = (0.36, 0.64)",
        "primal = −1.5,  dual = −1.5",
    ):
        assert line in text
    assert "Hölder's is tight" in page.steps[4].words
    assert "one more unit of `ε` lowers the bound by `5`" in page.steps[4].words


@pytest.mark.parametrize(
    ("p", "formula"),
    [
        (1, "|g_2| > μ,  η_2 = 0.6"),
        (1.5, "η_3 ≈ clip(−1·(1/2.42086)^2, −0.6, 0.6) ≈ −0.170632"),  # 2·0.6^1.5 + a^1.5 = 1, μ = a^{−1/2}
        (2, "η_2 ≈ clip(1·(4/1.88982)^1, −0.6, 0.6) ≈ 0.6"),  # 2·0.6² + a² = 1, μ = 1/a
        (INF, "η_2 = clip(1, −2, 2) = 1"),
    ],
)
def test_a_box_cuts_equation_6_off(p: float, formula: str) -> None:
    bounds = ca.Box(-0.6, 0.6) if p < INF else box([-0.5, -2, -2], [0.5, 2, 2])
    page = ca.explain(gnii(0, [3, -4, 1], ball(p), bounds))
    assert formula in [plain(line) for line in page.steps[3].formulas]
    assert page.proved


@pytest.mark.parametrize(
    ("L", "words"),
    [(2.4, "It does."), (2.5, "the case that Proposition 1 leaves out"), (2.6, "It does not, inequality (5).")],
)
def test_proposition_1_and_the_case_that_it_leaves_out(L: float, words: str) -> None:
    page = ca.explain(gn(L, [3, 4], ball(2, 0.5)))
    step = page.steps[3]
    assert step.title == "Proposition 1"
    assert words in step.words
    assert ("Farkas" in step.words) == (L > 2.4)
    assert page.proved


def test_degenerate_cases_are_said_in_words() -> None:
    assert "every `η` of the set is optimal" in ca.explain(gnii(1, [0, 0], ball(2))).steps[3].words
    assert "single point" in ca.explain(gnii(1, [3, 4], ball(2, 0.0))).steps[3].words
    assert "2 coordinates tie, `η_{1}`, `η_{2}`" in ca.explain(gnii(1, [2, -2, 1], ball(1))).steps[3].words
    assert "any value of the ball" in ca.explain(gnii(1, [2, 0, 1], ball(INF))).steps[3].words
    assert "2 coordinates tie" in ca.explain(min_norm(1, [2, -2, 1], 1)).steps[3].words
    assert "`η = 0` satisfies" in ca.explain(min_norm(-1, [3, 4], 2)).steps[3].words
    assert "nearest to 0" in ca.explain(min_norm(-10, [1, 1], 2, ca.Box(1.0, 2.0))).steps[3].words
    assert "The ball is not needed" in ca.explain(gnii(0, [3, 4], ball(2), ca.Box(-0.1, 0.1))).steps[2].words
    assert "only in the last digits" in ca.explain(gn(0.35, [-1, 2, 0.5], ball(INF, 0.1))).steps[3].words


@pytest.mark.parametrize(
    ("program", "status", "words"),
    [
        (min_norm(1, [0, 0], 2), ca.Status.INFEASIBLE, "The gradient is 0"),
        (min_norm(2.001, [1, 1], 2, ca.Box(-1.0, 1.0)), ca.Status.INFEASIBLE, "The box does not reach the half-space"),
        (gnii(0, [1, 1], ball(2), ca.Box(1.0, 2.0)), ca.Status.INFEASIBLE, "The set is empty"),
        (
            gn(0, [1, 1], ball(2), box([1.0, 0.0], [0.5, 1.0])),
            ca.Status.INFEASIBLE,
            "The bounds of `η_{1}` exclude each other",
        ),
        (gnii(0, [1, 0], ca.Box(-INF, 1.0)), ca.Status.UNBOUNDED, "UNBOUNDED: The objective falls without end"),
        (gnii(math.nan, [1, 0], ball(2)), ca.Status.INVALID, "INVALID: "),
        (min_norm(1, [math.inf, 0], 2), ca.Status.INVALID, "INVALID: "),
        (ca.OperatorNorm(torch.full((1, 2, 2), math.nan), ball(INF)), ca.Status.INVALID, "INVALID: "),
    ],
)
def test_what_has_no_solution_is_explained(program: ca.Program, status: ca.Status, words: str) -> None:
    page = ca.explain(program)
    judged(page)
    assert page.status is status
    assert any(words in step.words for step in page.steps)


@pytest.mark.parametrize(
    ("p", "title"),
    [(1, "The bound"), (1.5, "The bound"), (2, "The Lagrangian"), (3, "The relaxation"), (INF, "The relaxation")],
)
def test_each_range_of_9_has_its_own_derivation(p: float, title: str) -> None:
    page = ca.explain(ca.OperatorNorm(normal(4, 2, 3, 5), ball(p, 0.1)), 1)
    judged(page)
    assert page.steps[1].title == title
    assert page.proved
    derived = dual_of(page)
    assert derived is not None
    assert derived.values["dual"] >= page.certificate.primal[0] * (1 - 1e-9)


ROWS = rows([1, 1, 1], [0, 0, -1])
OTHERS: dict[str, tuple[ca.ConvexSet, ...]] = {
    "two balls": (ball(2, 0.5), ball(1, 0.6)),
    "halfspaces": (ball(2, 0.5), ca.Halfspaces(ROWS, numbers(-0.1, 0.1))),
    "a set of one's own": (ball(2, 0.5), ca.ConvexSet(ca.atoms.Interval(-INF, -0.1), ca.maps.Rows(ROWS), "mine")),
    "a line": (ball(INF, 0.5), ca.Affine(ROWS, 0.05)),
    "groups": (ca.GroupBall(torch.tensor([0, 0, 1]), 0.5), ca.Box(-0.3, 0.4)),
    "weights": (ca.WeightedBall(ca.Lp(2), numbers(1.0, 2.0, 0.5), 0.5), ca.Support(torch.tensor([True, True, False]))),
    "total variation": (ca.TotalVariation((1, 3), 0.2), ca.Box(-1.0, 1.0)),
    "no common point": (ball(2, 0.5), ca.Halfspaces(ROWS, -5.0)),
}


@pytest.mark.parametrize("sets", OTHERS.values(), ids=OTHERS)
def test_other_sets_have_a_general_derivation(sets: tuple[ca.ConvexSet, ...]) -> None:
    g, c = [3.0, 4.0, -1.0], numbers(1.0, 0.5)[None]
    for program in (
        gnii(1, g, *sets),
        gn(1, g, *sets),
        gn(5, g, *sets),
        min_norm(0.5, g, 2, *sets),
        ca.HingeSum(c, rows(g, [1, -1, 1])[None], sets),
    ):
        page = ca.explain(program)
        judged(page)
        assert page.certificate.holds(ca.Tolerance())[0]
        assert all(f"`C_{j}` is {item.label}" in page.steps[0].words for j, item in enumerate(sets, 1))
        derived = dual_of(page)
        assert (derived is None) == (page.solution.eta.isnan().any())
        if derived is not None:
            assert "(complementary slackness)" in page.steps[4].words


def test_complementary_slackness_is_told_set_by_set() -> None:
    page = ca.explain(gnii(1, [3, 4, -1], ball(2, 0.5), ca.Halfspaces(ROWS, numbers(-0.3, -0.2)), ca.Box(-9.0, 9.0)))
    words = page.steps[4].words
    assert "`C_1` (Ball) is tight." in words
    assert "`C_2` (Halfspaces) is tight: `K_2η` is at a bound in row 2." in words
    assert "`C_3` (Box) has no price." in words


def test_a_text_is_explained_with_its_multipliers() -> None:
    import cvxpy as cp

    page = ca.explain(gnii(1, [3, 4], ball(2, 0.5), ca.CustomSet(lambda eta: [cp.norm(eta, 1) <= 0.2])))
    true(page)
    well_formed(page)
    assert "`C_2` (CustomSet) is tight." in page.steps[4].words


def test_item_i_is_explained_alone() -> None:
    program = ca.GNII(numbers(1, 2), rows([3, 4], [1, 0]), (ca.Ball(ca.Lp(2), numbers(0.5, 2.0)), ca.Box(-3.0, 3.0)))
    assert "g = (1, 0),  p = 2,  ε = 2" in str(ca.explain(program, 1))
    assert str(ca.explain(program, -1)) == str(ca.explain(program, 1))
    with pytest.raises(IndexError, match=r"i must be in \[0, 2\), got 2"):
        ca.explain(program, 2)


def test_what_cannot_be_explained_is_said() -> None:
    with pytest.raises(TypeError, match="program must be a"):
        ca.explain("gnii")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="jacobian is matrix-free"):
        ca.explain(ca.OperatorNorm.from_model(torch.nn.Linear(2, 2), torch.zeros(1, 2), ball(2)))
    with pytest.raises(ValueError, match="format 'pdf' is unknown: use one of terminal, markdown, latex"):
        ca.explain(gnii(1, [3, 4], ball(2))).render("pdf")


def test_a_long_vector_is_shown_by_its_ends() -> None:
    page = ca.explain(gnii(1, [*range(1, 785)], ball(2, 0.5)))
    judged(page)
    assert "g = (1, 2, 3, …, 783, 784)" in str(page)
    assert max(map(len, str(page).splitlines())) <= 110


# --- notation


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (-0.0, "0"),
        (-0.3, "−0.3"),
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.333333~"),
        (1.5e-7, "1.5·10^{−7}"),
        (-INF, "−∞"),
        (math.nan, "NaN"),
    ],
)
def test_numbers(x: float, text: str) -> None:
    assert n(x) == text


def test_a_rounded_number_makes_its_equations_approximate() -> None:
    assert relate(f"a = {n(0.5)} = 1/2,  b = {n(1 / 3)} = 1/3 ≤ 1 = c") == "a = 0.5 = 1/2,  b ≈ 0.333333 ≈ 1/3 ≤ 1 = c"
    assert relate(f"g = {vector([1, 2 / 3])},  p = 2") == "g ≈ (1, 0.666667),  p = 2"


def test_numbers_that_differ_look_different() -> None:
    assert apart(2.5, 2.5) == ("2.5", "2.5")
    a, b = apart(1.0, 1.0 + 1e-12)
    assert a.rstrip("~") < b.rstrip("~")


@given(st.floats(1e-6, 1e6), st.floats(0, 1))
def test_a_bracket_is_rounded_outwards(low: float, width: float) -> None:
    high = low * (1 + width)
    down, up = (value(text.rstrip("~")) for text in outwards(low, high))
    assert down is not None
    assert up is not None
    assert down <= low * (1 + 1e-15)
    assert high <= up * (1 + 1e-15)
    assert up - down <= 2 * (high - low) + 1e-15 * high


@pytest.mark.parametrize(
    ("formula", "tex"),
    [
        ("‖η‖_{2} ≤ ε", r"\lVert\eta\rVert_{2} \le \varepsilon"),
        ("L + gᵀη ≥ 0", r"L + g^{\mathsf{T}}\eta \ge 0"),
        ("(|g_i|/μ)^{q−1}", r"(\lvert g_i\rvert/\mu)^{q-1}"),
        ("minimize λL  subject to  μ ≥ 1", r"\text{ minimize } \lambda L\quad \text{ subject to }\quad \mu \ge 1"),
        ("[1, −2; 3, 4]", r"\begin{pmatrix}1 & -2\cr 3 & 4\end{pmatrix}"),
        ("λ_{max}(JᵀJ) = sign(x)", r"\lambda_{\max}(J^{\mathsf{T}} J) = \operatorname{sign}(x)"),
    ],
)
def test_latex(formula: str, tex: str) -> None:
    assert latex(formula) == tex


def test_long_formulas_break_at_a_relation_and_matrices_at_a_row() -> None:
    long = "a = " + " + ".join(["123456"] * 8) + " = " + " + ".join(["654321"] * 8)
    assert broken(long) == [long[: long.rindex(" = ")], long[long.rindex("= ") :]]
    assert broken("a = b") == ["a = b"]
    wide = f"J = {matrix([[123456.0] * 6] * 3)}"
    assert broken(wide) == [wide]
    assert [line.index("1") for line in stacked(wide)] == [5, 5, 5]
    assert stacked("J = [1, 2; 3, 4]") == ["J = [1, 2; 3, 4]"]
    assert marked("add a Ball along −g; L + gᵀη < 0.") == "add a Ball along `−g`; L + `gᵀη` < 0."


# --- the command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXAMPLE = ("explain", "gnii", "--norm", "2", "--radius", "0.5", "--gradient", "3,4", "--value", "1")


def test_the_command_prints_the_derivation(folder: Path) -> None:
    page = ca.explain(gnii(1, [3, 4], ball(2, 0.5)))
    assert run(*EXAMPLE) == (page.terminal(), "")
    assert run(*EXAMPLE, "--format", "markdown") == (page.markdown(), "")
    assert run(*EXAMPLE, "--format", "latex") == (page.latex(), "")
    out, _ = run(*EXAMPLE, "--format", "latex", "-o", "proof.tex")
    assert out == "proof.tex: OPTIMAL, 6 steps\n"
    assert Path("proof.tex").read_text(encoding="utf-8") == page.latex()
    assert [path.name for path in folder.iterdir()] == ["proof.tex"]


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        ("gn --norm inf --radius 1 --gradient -3,4 --value -1", gn(-1, [-3, 4], ball(INF))),
        (
            "gnii --norm 2 --radius 1 --gradient=-3,4 --value=0 --lower=-0.6",
            gnii(0, [-3, 4], ball(2), ca.Box(-0.6, INF)),
        ),
        (
            "min-norm --norm 2 -g 1,1 --value 3 --lower -1,-inf --upper inf",
            min_norm(3, [1, 1], 2, box([-1, -INF], [INF, INF])),
        ),
        (
            "operator-norm --norm inf --radius 0.5 --jacobian -1,2;3,-4",
            ca.OperatorNorm(rows([-1, 2], [3, -4])[None], ball(INF, 0.5)),
        ),
    ],
)
def test_the_command_reads_numbers(arguments: str, program: ca.Program) -> None:
    assert run("explain", *arguments.split())[0] == str(ca.explain(program))


def test_the_command_reads_an_item_of_a_file(folder: Path) -> None:
    g = np.array([[3.0, 4.0], [1.0, -2.0]])
    np.savez("problem.npz", value=np.array([1.0, 9.0]), gradient=g, program="gn", p=2.0, radius=np.array([0.5, 2.0]))
    assert run("explain", "--problem", "problem.npz", "--item", "1")[0] == str(ca.explain(gn(9, [1, -2], ball(2, 2.0))))
    run("solve", "problem.npz", "-o", "solution.npz")
    assert run("explain", "--problem", "solution.npz")[0] == str(ca.explain(gn(1, [3, 4], ball(2, 0.5))))
    assert "item 2 is not in problem.npz, which has 2: give --item 0 to 1" in refused(
        "explain", "--problem", "problem.npz", "--item", "2"
    )
    assert "PROGRAM and --problem problem.npz both say" in refused("explain", "gn", "--problem", "problem.npz")
    assert "--value and --problem problem.npz both say" in refused(
        "explain", "--problem", "problem.npz", "--value", "1"
    )


def test_the_command_ends_with_1_where_nothing_is_proved() -> None:
    out, _ = run("explain", "gnii", "--norm", "2", "--radius", "1", "--gradient", "nan,1", "--value", "0", status=1)
    assert "INVALID: The value, the gradient" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "PROGRAM is missing: give gn, gnii, min-norm or operator-norm, or --problem FILE.npz"),
        ("fgsm", "PROGRAM 'fgsm' is unknown: use one of gn, gnii, min-norm, operator-norm"),
        ("gnii --norm 2", "gradient is missing: gnii needs --gradient"),
        ("gnii -g 3,4 --norm 2", "value is missing: gnii needs --value"),
        ("gnii -g 3,4 --value 1", "norm is missing: gnii needs --norm"),
        ("GNII", "radius is missing: without it"),
        (
            "gnii -g 3,four --value 1 --norm 2",
            "gradient holds 'four', which is no number: give numbers with commas between",
        ),
        ("gnii -g , --value 1 --norm 2 --radius 1", "gradient is empty"),
        ("gnii -g 3,4 --value 1 --norm 0.5 --radius 1", "p must be in [1, inf], got p = 0.5"),
        ("gnii -g 3,4 --value 1 --norm two --radius 1", "norm holds 'two', which is no number: give p in [1, inf]"),
        ("GNII --radius -1", "radius must be a finite number >= 0, got -1.0"),
        ("GNII --radius 1 --upper 1,2,3", "upper '1,2,3' has 3 numbers: give one"),
        ("GNII --jacobian 1", "jacobian 1 has no place in gnii: leave it out"),
        ("min-norm -g 3,4 --value 1 --norm 2 --radius 1", "radius has no place in min-norm"),
        (
            "operator-norm -j 1,2;3 --norm 2 --radius 1",
            "jacobian '1,2;3' has no rows of one length: give it as 1,2;3,4",
        ),
        ("operator-norm -j 1,2 --norm 2 --radius 1 --lower 0", "lower and upper have no place in operator-norm"),
        ("operator-norm -j 1,2 --norm 2 --radius 1 --item 3", "item 3 has no meaning without --problem: leave it out"),
        ("EXAMPLE --format html", "format 'html' is unknown: use one of terminal, markdown, latex"),
        ("EXAMPLE -o nowhere/proof.md", "nowhere/proof.md cannot be written"),
        ("--problem none.npz", "none.npz does not exist"),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: str, sentence: str, folder: Path) -> None:
    known = arguments.replace("EXAMPLE", " ".join(EXAMPLE[1:])).replace("GNII", "gnii -g 3,4 --value 1 --norm 2")
    assert sentence in refused("explain", *known.split())
    assert list(folder.iterdir()) == []
