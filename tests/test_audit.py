"""The audit of other libraries, on libraries made up here: none of the real ones is needed."""

from __future__ import annotations

import json
import math
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import convexattack as ca
from verification import audit
from verification.__main__ import main
from verification.audit import command
from verification.audit.counterexample import EXAMPLES
from verification.audit.measure import DIMS, KINDS
from verification.audit.peers import Call, Pixels

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "verification" / "results"
HERE = "torch"  # a distribution that is installed wherever the tests run


Kind = type[ca.GNII] | type[ca.MinNorm]


def fake(call: Call, p: float = 2, case: str = "ball", program: Kind = ca.GNII, library: str = HERE) -> audit.Step:
    return audit.Step(library, "step", "", program, ca.Lp(p), case, call)


def margins(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """L (K,) and ∇L (K, d) of label 0 in float64."""
    lin = ca.linearize(model.double(), x.double(), torch.zeros(1, dtype=torch.int64))
    return lin.value[0], lin.gradient[0]


def steepest(p: float) -> Call:
    """The best step of a ball, clipped where a pixel range is given: what the libraries do when they do it well."""

    def call(model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
        _, g = margins(model, x)
        moved = x + radius * ca.Lp(p).steepest(g).reshape(x.shape).float()
        return moved.clamp(*pixels) if pixels else moved

    return call


def half(model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
    return (x + steepest(2)(model, x, label, pixels, radius)) / 2


def nearest(overshoot: float) -> Call:
    """The smallest perturbation that crosses, without a pixel range."""

    def call(model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
        assert math.isnan(radius)
        value, g = margins(model, x)
        k = int((value / g.norm(dim=-1)).argmin())
        return (x.double() - (1 + overshoot) * (value[k] / g[k].square().sum() * g[k]).reshape(x.shape)).float()

    return call


def broken(model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
    if float(x.sum()) * 7 % 1 < 0.5:
        raise AssertionError("no such image")
    return steepest(2)(model, x, label, pixels, radius)


def absent(model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
    import no_such_module_anywhere  # type: ignore[import-not-found]

    return no_such_module_anywhere.step(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_an_exact_step_reaches_everything(p: float) -> None:
    found = audit.measure(fake(steepest(p), p), 2, seed=0)
    assert (found.items, found.raised) == (16, 0)
    assert found.worst is not None
    assert found.worst == pytest.approx(1, abs=1e-6)
    assert found.violation is not None
    assert found.violation < 1e-6
    assert len(found.by) == len(KINDS) * len(DIMS)


def test_half_a_step_reaches_half() -> None:
    found = audit.measure(fake(half), 2, seed=0)
    assert found.mean == pytest.approx(0.5, abs=1e-6)
    assert found.worst == pytest.approx(0.5, abs=1e-6)


def test_a_step_too_long_is_a_violation() -> None:
    def double(model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
        return steepest(2)(model, x, label, pixels, 2 * radius)

    found = audit.measure(fake(double), 1, seed=0)
    assert found.violation == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("p", "exact"), [(1, False), (2, False), (math.inf, True)])
def test_what_clipping_keeps(p: float, exact: bool) -> None:
    """Clipped ℓ∞ steps are optimal; ℓ1 and ℓ2 ones are not, and none leaves ball or pixel range."""
    found = audit.measure(fake(steepest(p), p, "pixels"), 3, seed=0)
    assert found.worst is not None
    assert (found.worst > 1 - 1e-6) == exact
    assert exact or 0 <= found.worst < 0.9
    assert found.violation is not None
    assert found.violation < 1e-6


@pytest.mark.parametrize("case", ["inside", "tiny", "bytes"])
def test_the_smallest_perturbation_is_known(case: str) -> None:
    """Only a margin of a ten-thousandth feels the rounding of x + η."""
    found = audit.measure(fake(nearest(0.02), 2, case, ca.MinNorm), 3, seed=0)
    assert (found.items, found.fooled, found.reached) == (6, 1.0, 1.0)
    assert found.mean == pytest.approx(1.02, rel=5e-3 if case == "tiny" else 1e-5)
    assert found.violation == 0


def test_one_that_does_not_cross_fools_nobody() -> None:
    found = audit.measure(fake(nearest(-0.2), 2, "inside", ca.MinNorm), 2, seed=0)
    assert (found.fooled, found.mean, found.worst) == (0.0, None, None)
    assert found.reached == pytest.approx(0.8, abs=1e-5)


def test_outside_the_pixel_range_is_a_violation() -> None:
    found = audit.measure(fake(nearest(0.02), 2, "pixels", ca.MinNorm), 2, seed=0)
    assert found.violation is not None
    assert found.violation > 0.01


def test_what_a_library_raises_is_counted_and_spoils_no_mean() -> None:
    found = audit.measure(fake(broken), 2, seed=0)
    assert 0 < found.raised < found.items
    assert found.error == "AssertionError: no such image"
    assert found.mean == pytest.approx(1, abs=1e-6)


def test_every_library_gets_the_same_images() -> None:
    seen: list[Tensor] = []

    def look(model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
        seen.append(x.flatten()[:5].clone())
        assert int(model(x).argmax()) == 0 or abs(float(model(x).diff())) < 1e-4
        return x

    for library in ("a", "b"):
        audit.measure(fake(look, library=library), 1, seed=3)
    n = len(seen) // 2
    assert n == 8
    assert all(torch.equal(one, other) for one, other in zip(seen[:n], seen[n:], strict=True))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in EXAMPLES:
        monkeypatch.setitem(EXAMPLES, program, 10)


def rows(steps: list[audit.Step]) -> list[audit.Row]:
    return list(audit.audit(steps, 1, 0))


def test_a_missing_library_is_one_row_that_names_the_cure() -> None:
    one, other = rows(
        [fake(steepest(2), library="no-such-library"), fake(half, library="no-such-library"), fake(steepest(2))]
    )
    assert one.why == "not installed: pip install -c constraints.txt -e '.[peers]'"
    assert one.measured is None
    assert (other.library, other.version, other.why) == (HERE, version(HERE), "")


def test_a_library_that_cannot_be_imported_says_why() -> None:
    (row,) = rows([fake(absent), fake(absent)])
    assert row.why == "not run: ModuleNotFoundError: No module named 'no_such_module_anywhere'"


def test_the_smallest_counterexample_is_found_or_said_to_be_absent() -> None:
    exact, wrong = rows([fake(steepest(2)), fake(half)])
    assert exact.counterexample.startswith("none found in ")
    assert wrong.counterexample != exact.counterexample
    assert "g = " in wrong.counterexample


def made(monkeypatch: pytest.MonkeyPatch, steps: list[audit.Step]) -> None:
    monkeypatch.setattr(command, "STEPS", steps)


def test_the_command_prints_and_saves_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deepfool = fake(nearest(0.02), 2, "inside", ca.MinNorm)
    made(monkeypatch, [fake(steepest(2)), fake(half), deepfool, fake(half, library="no-such-library")])
    assert main(["audit", "--items", "1", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "0.5000" in printed
    assert "not installed" in printed
    saved = json.loads((tmp_path / "audit.json").read_text())
    assert saved["command"] == f"python -m verification audit --items 1 --out {tmp_path}"
    assert (tmp_path / "audit.md").read_text() == audit.markdown(saved)
    assert {path.name for path in tmp_path.iterdir()} == {"audit.json", "audit.md"}
    assert [audit.row_of(entry) for entry in saved["rows"]][1].measured == audit.measure(fake(half), 1, 0)


def test_without_any_library_the_table_on_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(monkeypatch, [fake(half, library="no-such-library")])
    assert main(["audit", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "not installed: pip install -c constraints.txt -e '.[peers]'" in printed.out
    assert "nothing was measured" in printed.err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
        raise KeyboardInterrupt

    made(monkeypatch, [fake(steepest(2)), fake(stop)])
    assert main(["audit", "--items", "1", "--out", str(tmp_path)]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--items", "0"], "--items 0 must be 1 or more"),
        (["--seed", "-1"], "--seed -1 must be 0 or more"),
        (["--out", "pyproject.toml/x"], "--out pyproject.toml/x cannot be written to"),
    ],
)
def test_a_wrong_argument_is_named(
    words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main(["audit", *words])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("words", [["audit", "--help"], ["--help"]])
def test_help_teaches_the_audit(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "python -m verification audit" in printed
    if words[0] == "audit":
        assert "pip install -c constraints.txt -e '.[peers]'" in printed
        assert "foolbox" in printed


# --- the committed table ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed() -> dict[str, object]:
    found: dict[str, object] = json.loads((RESULTS / "audit.json").read_text())
    return found


def test_the_committed_page_is_made_from_its_json(committed: dict[str, object]) -> None:
    assert (RESULTS / "audit.md").read_text() == audit.markdown(committed)


def test_the_committed_table_has_every_step(committed: dict[str, object]) -> None:
    assert committed["command"] == "python -m verification audit"
    entries = committed["rows"]
    assert isinstance(entries, list)
    found = [
        (row.library, row.name, row.options, row.program, row.case)
        for row in map(audit.row_of, entries)
        if row.measured
    ]
    assert found == [(step.library, step.name, step.options, step.program.__name__, step.case) for step in audit.STEPS]


def test_the_readme_quotes_the_committed_table() -> None:
    page = (RESULTS / "audit.md").read_text()
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## Other libraries' steps")[2].partition("\n## ")[0]
    quoted = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ") and "‖" in line]
    assert len(quoted) >= 3
    table = [line.strip("| ").split(" | ") for line in page.splitlines()]
    places = [0, 1, 2, 5, 6]  # of the quoted columns
    assert [
        cells for cells in quoted if cells not in [[line[k] for k in places] for line in table if len(line) > 6]
    ] == []
