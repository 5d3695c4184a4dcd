"""`python -m verification mutants`: what is changed, what is left alone, what is kept, and a run on a toy package."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from verification.__main__ import main
from verification.mutants import Ledger, Mutant, Room, Row, command, existing, ledger, mutants, mutated, report
from verification.mutants.rooms import ROOMS

ROOT = Path(__file__).resolve().parent.parent


def changes(source: str, allowance: bool | None = None) -> set[str]:
    return {mutant.what for mutant in mutants("a.py", source) if allowance in (None, mutant.allowance)}


# --- the mutator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x + y", {"x + y -> x - y"}),
        ("x - y", {"x - y -> x + y"}),
        ("x * y", {"x * y -> x / y"}),
        ("x / y", {"x / y -> x * y"}),
        ("x // y", {"x // y -> x * y"}),
        ("x % y", {"x % y -> x // y"}),
        ("x @ y", {"x @ y -> x * y"}),
        ("x**y", {"x ** y -> x * y"}),
        ("x & y", {"x & y -> x | y"}),
        ("x | y", {"x | y -> x & y"}),
        ("-x", {"-x -> x"}),
        ("~x", {"~x -> x"}),
        ("not x", {"not x -> x"}),
        ("x and y", {"x and y -> x or y"}),
        ("x or y", {"x or y -> x and y"}),
        ("x < y", {"x < y -> x <= y", "x < y -> x >= y"}),
        ("x <= y", {"x <= y -> x < y", "x <= y -> x > y"}),
        ("x > y", {"x > y -> x >= y", "x > y -> x <= y"}),
        ("x >= y", {"x >= y -> x > y", "x >= y -> x < y"}),
        ("x == y", {"x == y -> x != y"}),
        ("x != y", {"x != y -> x == y"}),
        ("x is y", {"x is y -> x is not y"}),
        ("x < y == z", {"x < y == z -> x <= y == z", "x < y == z -> x >= y == z", "x < y == z -> x < y != z"}),
        ("x += y", {"x += y -> x -= y"}),
        ("x |= y", {"x |= y -> x &= y"}),
        ("x[i + 1] = y", {"i + 1 -> i - 1"}),
        ("x.clamp_min(0)", {"x.clamp_min(0) -> x.clamp_max(0)"}),
        ("torch.maximum(x, y)", {"torch.maximum(x, y) -> torch.minimum(x, y)"}),
        ("x.amax(-1)", {"x.amax(-1) -> x.amin(-1)"}),
        ("max(x, -1 * y)", {"max(x, -1 * y) -> min(x, -1 * y)", "-1 * y -> -1 / y", "-1 -> 1"}),
        ("x.clamp(min=0)", {"x.clamp(min=0) -> x.clamp(max=0)"}),
        ("round_up(x)", {"round_up(x) -> round_down(x)"}),
        ("f(lambda x: x + 1)", {"x + 1 -> x - 1"}),
        ("def f(x=y + 1): return not x", {"y + 1 -> y - 1", "not x -> x"}),
    ],
)
def test_each_kind_of_change(source: str, expected: set[str]) -> None:
    assert changes(source) == expected
    assert not changes(source, allowance=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x + error", {"x + error -> x"}),
        ("error - x", {"error - x -> -x"}),
        ("x + 2 * error * y", {"x + 2 * error * y -> x"}),
        ("x - y * self.slack / 2", {"x - y * self.slack / 2 -> x"}),
        ("x > error", {"error -> 0 * error"}),
        ("f(x, slack)", {"slack -> 0 * slack"}),
        ("error.sum(-1)", {"error -> 0 * error"}),
        ("x * rounding_slack(d)", {"rounding_slack(d) -> 0 * rounding_slack(d)"}),
        ("(3 * d + 70) * UNIT", {"UNIT -> 0 * UNIT", "3 -> 0", "70 -> 0"}),
        ("3 * UNIT", {"UNIT -> 0 * UNIT"}),
        ("x * UNIT * gamma(d)", {"UNIT -> 0 * UNIT"}),
        ("torch.finfo(x.dtype).eps * x", {"torch.finfo(x.dtype).eps -> 0 * torch.finfo(x.dtype).eps"}),
        ("slack = 3 * d", {"3 -> 0"}),
        ("slack: float = 1e-3", {"0.001 -> 0.0"}),
        ("f(x, slack=2)", {"2 -> 0"}),
        ("def f(x, y=2, *, slack=1e-3): pass", {"0.001 -> 0.0"}),
        ("def gamma(d): return 2 * d", {"2 -> 0"}),
        ("UNIT = 2.0**-53", {"2.0 ** (-53) -> 0"}),
        ("x > 1e-9", {"1e-09 -> 0.0"}),
        ("from a import UNIT\nx * UNIT", {"UNIT -> 0 * UNIT"}),
    ],
)
def test_each_allowance_is_taken_away(source: str, expected: set[str]) -> None:
    assert changes(source, allowance=True) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""x + y"""',
        "def f(x: A | None = None) -> B | C: ...",
        "x: int | None = None",
        "Size = float | Tensor",
        "isinstance(x, int | float)",
        "x is None",
        "x is not None",
        'f"{x + y}"',
        'raise ValueError(f"{x}" + str(x - y))',
        '__all__ = ["a"] + b',
        '"a" + x',
        "[x] + y",
        "x += [y]",
        "x.sum(-1)",
        "x.sum((-1, -2))",
        "x.softmax(dim=-1)",
        "x.shape[-1]",
        "if TYPE_CHECKING:\n    x = y + z",
        "@f(x + 1)\ndef g(): ...",
        "try: f()\nexcept OSError as error: g(error)",
        "def error_of(x): ...\nmap(error_of, y)",
        "from a import rounding\nrounding.f(x)",
        "slackness(x)",
        "ErrorBound(x)",
        "x = 2",
        "x in y",
        "match x:\n    case -1:\n        pass",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert changes(source) == set()


def test_a_mutant_replaces_its_expression_and_nothing_else() -> None:
    source = 'ü = "‖η‖"; a = f(ü, -x)  # η\nb = (c +  # more\n     d) * e\nif a < b <= c:\n    a -= (c  +\n      e)\n'
    found = {mutant.what: mutated(source, mutant) for mutant in mutants("a.py", source)}
    assert found["-x -> x"] == source.replace("-x", "(x)")
    assert found["c + d -> c - d"] == source.replace("c +  # more\n     d", "(c - d)")
    assert found["a -= c + e -> a += c + e"] == source.replace("a -= (c  +\n      e)", "a += c + e")
    trees = {ast.dump(ast.parse(text)) for text in found.values()}
    assert len(trees) == len(found) == 9


def test_a_mutant_says_where_it_is_and_its_key_outlives_other_lines() -> None:
    (one,) = mutants("a.py", "ü = f(x  +  y)")
    (moved,) = mutants("a.py", "\n\nü =   f(x  +  y)")
    assert (one.line, one.column, one.said) == (1, 7, "a.py:1:7: x + y -> x - y")
    assert one.key == moved.key == "a.py | ü = f(x + y) | x + y -> x - y"


def test_every_mutant_of_the_package_is_a_program_of_its_own() -> None:
    for path in sorted((ROOT / "convexattack").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        found = mutants(path.name, source)
        assert len({(one.line, one.column, one.what) for one in found}) == len(found)
        for one in found[::10]:
            compile(mutated(source, one), path.name, "exec")


# --- rooms, ledger, reasons -----------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_left_out_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROOMS, "toy", (["a.py", "b/*.py"], ["test_a.py", "test_b.py"]))
    monkeypatch.setitem(ROOMS, "gone", (["c.py"], ["test_a.py"]))
    for name in ("a.py", "test_a.py"):
        (tmp_path / name).touch()
    found, left_out = existing(["toy", "gone"], tmp_path)
    assert found == [Room("toy", ("a.py",), ("test_a.py",))]
    assert left_out == [
        "room toy: b/*.py is left out, for there is no such file",
        "room toy: test_b.py is left out, for there is no such file",
        "room gone: c.py is left out, for there is no such file",
        "room gone is left out: it has no source",
    ]


def row(mutant: Mutant, verdict: str = "killed", digest: str = "d") -> Row:
    place = (mutant.file, mutant.line, mutant.column, mutant.what, mutant.allowance)
    return Row("toy", *place, verdict=verdict, seconds=1.0, by="test", digest=digest)


def test_the_ledger_goes_on_where_it_was(tmp_path: Path) -> None:
    first, second, third = mutants("a.py", "x + y * z - 1")
    path = tmp_path / "mutants.jsonl"
    Ledger(path).put(row(first))
    Ledger(path).put(row(second, "survived"))
    with path.open("a") as file:
        file.write('{"room": "toy", "file": "a.p')  # as a machine leaves it that lost power
    Ledger(path).put(row(third))
    kept = Ledger(path)
    assert [kept.get(one, "toy", "d") for one in (first, second, third)] == [
        row(first),
        row(second, "survived"),
        row(third),
    ]
    assert kept.get(first, "toy", "another digest") is None
    assert kept.get(first, "another room", "d") is None
    kept.put(row(second))
    assert Ledger(path).get(second, "toy", "d") == row(second)


def test_the_draw_depends_on_the_seed_and_on_each_mutant_alone() -> None:
    room = Room("toy", ("a.py",), ("test_a.py",))
    lines = [f"x{k} + y" for k in range(40)]

    def drawn(seed: int, lines: list[str]) -> set[str]:
        every = [(room, one) for one in mutants("a.py", "\n".join(lines))]
        return {mutant.what for _, mutant in command._sample(every, 10, seed)}

    assert len(drawn(0, lines)) == 10
    assert drawn(0, lines) == drawn(0, lines)
    assert drawn(0, lines) != drawn(1, lines)
    assert len(drawn(0, lines) & drawn(0, [*lines[1:], "z * 2"])) >= 8


def test_reasons_that_are_no_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reasons.json"
    assert ledger.reasons(path) == {}
    path.write_text('{"a": "equal", "b": " "}')
    assert ledger.reasons(path) == {"a": "equal"}
    for text in ("[1]", '{"a": 1}', "{"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"reasons\.json"):
            ledger.reasons(path)


def test_the_reasons_of_this_repository_can_be_read() -> None:
    assert all(len(key.split(" | ")) >= 3 for key in ledger.reasons(ledger.REASONS))


def test_what_passes() -> None:
    plain = [(one, row(one)) for one in mutants("a.py", "\n".join(f"x{k} + y" for k in range(20)))]
    assert report.passes(plain, {})
    assert report.passes([(one, replace(its, verdict="timeout")) for one, its in plain], {})
    one_left = [*plain[:-1], (plain[-1][0], row(plain[-1][0], "survived"))]
    assert report.passes(one_left, {})
    assert not report.passes([*one_left, one_left[-1]], {})
    assert not report.passes([], {})
    allowance = next(one for one in mutants("a.py", "x > error") if one.allowance)
    left = [*plain, (allowance, row(allowance, "survived"))]
    assert not report.passes(left, {})
    assert report.passes(left, {allowance.key: "x is exact here"})


# --- the command ----------------------------------------------------------------------------------------------------

TOY = '''"""A toy."""

UNIT = 0.5


def raised(x: float) -> float:
    return x + UNIT


def within(x: int, limit: int) -> bool:
    return x <= limit


def none(n: int) -> int:
    while n:
        n -= 1
    return n
'''
TESTS = """
from convexattack.toy import none, raised, within

def test_raised() -> None:
    assert raised(1) == 1.5

def test_within() -> None:
    assert within(1, 2) and not within(2, 1)

def test_none() -> None:
    assert none(3) == 0
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one room, whose tests never look at the edge of `within`."""
    root = tmp_path / "checkout"
    for name, text in (("convexattack/__init__.py", ""), ("convexattack/toy.py", TOY), ("tests/test_toy.py", TESTS)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "verification" / "results").mkdir(parents=True)
    monkeypatch.setattr("verification.mutants.rooms.ROOT", root)
    monkeypatch.setattr("verification.mutants.rooms.ROOMS", {"toy": (["convexattack/*.py"], ["tests/test_toy.py"])})
    monkeypatch.setattr(command, "WARM", False)
    monkeypatch.setattr(command, "TIMES", 3)
    monkeypatch.setattr(command, "MORE", 2)
    monkeypatch.setattr(ledger, "REASONS", tmp_path / "reasons.json")
    return root


def test_a_run_on_a_toy_and_its_resume(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mutants.jsonl"
    arguments = ["mutants", "--all", "--jobs", "1", "--out", str(out)]
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "convexattack/toy.py:11:12: x <= limit -> x < limit\n    return x <= limit\n    NO REASON GIVEN" in said
    assert "5 of 6 mutants were noticed, 83.3 % (95% must be); no allowances survived" in said
    verdicts = {its.what: (its.verdict, its.by.partition("::")[2]) for its in Ledger(out).rows.values()}
    assert verdicts == {
        "0.5 -> 0.0": ("killed", "test_raised"),
        "x + UNIT -> x - UNIT": ("killed", "test_raised"),
        "x + UNIT -> x": ("killed", "test_raised"),
        "x <= limit -> x < limit": ("survived", ""),
        "x <= limit -> x > limit": ("killed", "test_within"),
        "n -= 1 -> n += 1": ("timeout", ""),
    }
    assert (toy / "convexattack" / "toy.py").read_text() == TOY

    def refuse(*arguments: object) -> None:
        raise AssertionError("nothing is left to run")

    monkeypatch.setattr(command, "Copies", refuse)
    key = "convexattack/toy.py | return x <= limit | x <= limit -> x < limit"
    (tmp_path / "reasons.json").write_text(
        f'{{"{key}": "the edge is nobody\'s", "convexattack/toy.py | x | y": "old"}}'
    )
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "the edge is nobody's" in said
    assert "NO REASON" not in said
    assert "a reason that fits no mutant, to be taken out: convexattack/toy.py | x | y" in said
    with pytest.raises(AssertionError, match="nothing is left"):
        main([*arguments, "--again"])


def test_tests_that_fail_by_themselves_are_no_verdict(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy / "tests" / "test_toy.py").write_text("def test_wrong() -> None:\n    assert False\n")
    out = tmp_path / "mutants.jsonl"
    assert main(["mutants", "--count", "1", "--jobs", "1", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert (
        "room toy: its tests do not pass without a mutant (killed); mend them first: pytest -n0 tests/test_toy" in said
    )
    assert not out.exists()


def test_the_list_runs_nothing(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutants", "--room", "toy", "--all", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[1] == "toy  convexattack/toy.py:7:12: x + UNIT -> x (allowance)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--room", "attic"], "--room attic is not one of toy"),
        (["--count", "0"], "--count 0 must be 1 or more; --all runs every mutant"),
        (["--seed", "-1"], "--seed -1 must be 0 or more"),
        (["--jobs", "0"], "--jobs 0 must be 1 or more"),
        (["--count", "3", "--all"], "not allowed with argument"),
        (["--out", "no/such/folder.jsonl"], "cannot be written to (No such file or directory)"),
        (["--out", "."], "cannot be written to (it is a folder)"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    toy: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["mutants", *arguments])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_room_without_files_is_refused(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "tests" / "test_toy.py").unlink()
    with pytest.raises(SystemExit) as stop:
        main(["mutants"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "room toy is left out: it has no tests" in said
    assert "--room toy has nothing to mutate" in said


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["mutants", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in ROOMS)
    assert "examples:" in said
