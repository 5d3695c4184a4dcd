"""Problems, solutions and records come back bit by bit; a wrong file is one sentence; nothing is left half-written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import convexattack as ca
from convexattack import files
from convexattack.certificates import Certificate

N, D = 5, 7
INF = math.inf


def numbers(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(N, D, generator=generator, dtype=torch.float64)
    return torch.tensor([0.5, 1.0, -0.25, 40.0, 2.0], dtype=torch.float64).to(dtype), gradient.to(dtype)


PROGRAMS: dict[str, Callable[[Tensor, Tensor], ca.Program]] = {
    "gn, ball": lambda L, g: ca.GN(L, g, (ca.Ball(ca.Lp(2), 0.5),)),
    "gn, ball and box": lambda L, g: ca.GN(L, g, (ca.Ball(ca.Lp(1.5), 0.5), ca.Box(-0.1, 0.2))),
    "gnii, radii": lambda L, g: ca.GNII(L, g, (ca.Ball(ca.Lp(INF), torch.linspace(0, 1, N).double()),)),
    "gnii, box": lambda L, g: ca.GNII(
        L, g, (ca.Box(torch.full((D,), -0.1), torch.linspace(0, 1, N)[:, None].double()),)
    ),
    "gnii, open box": lambda L, g: ca.GNII(L, g, (ca.Ball(ca.Lp(1), 2.0), ca.Box(-INF, 0.3))),
    "min-norm": lambda L, g: ca.MinNorm(L, g, ca.Lp(3)),
    "min-norm, box, one infeasible": lambda L, g: ca.MinNorm(L, g, ca.Lp(2), (ca.Box(-1.0, torch.full((N, D), 1.0)),)),
}


def same(a: Certificate, b: Certificate) -> bool:
    names = ("primal", "dual", "gap", "violation", "residual", "claimed", "proved")
    return all(torch.equal(getattr(a, name).nan_to_num(-7.0), getattr(b, name).nan_to_num(-7.0)) for name in names)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_a_solution_comes_back_bit_by_bit(
    make: Callable[[Tensor, Tensor], ca.Program], dtype: torch.dtype, tmp_path: Path
) -> None:
    program = make(*numbers(dtype))
    solution = ca.solve(program)
    files.write_solution(tmp_path / "solution.npz", program, solution)
    again, claim = files.read_solution(tmp_path / "solution.npz")
    assert isinstance(claim, ca.Solution)
    assert type(again) is type(program)
    assert isinstance(again, ca.Program)
    assert again.gradient.dtype == claim.eta.dtype == dtype
    assert torch.equal(claim.eta.nan_to_num(-7.0), solution.eta.nan_to_num(-7.0))
    assert same(ca.certify(again, claim), ca.certify(program, solution))
    assert [path.name for path in tmp_path.iterdir()] == ["solution.npz"]


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_a_record_comes_back_bit_by_bit(make: Callable[[Tensor, Tensor], ca.Program], tmp_path: Path) -> None:
    program = make(*numbers())
    solution = ca.solve(program)
    with files.appending(tmp_path / "records.jsonl") as append:
        for i in range(N):
            append(files.as_record(program, i, {"closed_form": solution}))
    records = list(files.read_records(tmp_path / "records.jsonl"))
    assert len(records) == N
    for i, (record, alone, claims) in enumerate(records):
        claim = claims["closed_form"]
        assert isinstance(alone, ca.Program)
        assert torch.equal(alone.gradient[0], program.gradient[i])
        assert torch.equal(claim.eta[0].nan_to_num(-7.0), solution.eta[i].nan_to_num(-7.0))
        assert files.certificate_records(ca.certify(alone, claim)) == [record["claims"]["closed_form"]["certificate"]]
    held = [record["claims"]["closed_form"]["certificate"]["holds"] for record, _, _ in records]
    assert held == ca.certify(program, solution).holds().tolist() == [True] * N


def test_an_invalid_item_is_recorded_as_json_that_any_reader_takes(tmp_path: Path) -> None:
    value, gradient = numbers()
    gradient[1, 2], gradient[3, 0] = math.nan, -INF
    program = ca.MinNorm(value, gradient, ca.Lp(2))
    with files.appending(tmp_path / "records.jsonl") as append:
        for i in range(N):
            append(files.as_record(program, i, {"closed_form": ca.solve(program)}))

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    text = (tmp_path / "records.jsonl").read_text()
    *lines, footer = (json.loads(line, parse_constant=refuse) for line in text.splitlines())
    assert footer.keys() == {"count", "sha256"}
    assert [line["claims"]["closed_form"]["status"] for line in lines] == [
        "OPTIMAL",
        "INVALID",
        "OPTIMAL",
        "INVALID",
        "OPTIMAL",
    ]
    programs = [program for _, program, _ in files.read_records(tmp_path / "records.jsonl")]
    again = [program.gradient[0] for program in programs if isinstance(program, ca.Program)]
    assert again[1].isnan().tolist() == [False, False, True, False, False, False, False]
    assert again[3][0] == -INF


# --- the claim in a file ----------------------------------------------------------------------------------------------


def archive(**changes: Any) -> dict[str, Any]:
    value, gradient = numbers()
    arrays = {"value": value.numpy(), "gradient": gradient.numpy(), "program": "gnii", "p": 2, "radius": 0.5} | changes
    return {name: entry for name, entry in arrays.items() if entry is not None}


def solved(**changes: Any) -> dict[str, Any]:
    program = ca.GNII(*numbers(), (ca.Ball(ca.Lp(2), 0.5),))
    return archive(eta=ca.solve(program).eta.numpy()) | changes


def test_an_eta_alone_is_a_claim(tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", **solved())
    program, eta = files.read_solution(tmp_path / "bare.npz")
    assert isinstance(eta, Tensor)
    assert ca.certify(program, eta).holds().all()


def test_a_status_without_multipliers_is_held_to(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        **solved(program="gn", status=["FEASIBLE", "FEASIBLE", "FEASIBLE", "FEASIBLE", "INFEASIBLE"]),
    )
    program, claim = files.read_solution(tmp_path / "a.npz")
    proved = ca.solve(program).status
    assert [status.name for status in proved] == ["FEASIBLE", "FEASIBLE", "FEASIBLE", "INFEASIBLE", "INFEASIBLE"]
    assert ca.certify(program, claim).holds().tolist() == [True, True, True, False, True]


def test_numbers_of_other_kinds_are_taken(tmp_path: Path) -> None:
    value, gradient = numbers()
    other = {"value": value.numpy().astype(">f8"), "gradient": np.asfortranarray(gradient.numpy())}
    np.savez(tmp_path / "problem.npz", **archive(**other, radius=np.ones(N, dtype=int), lower=-1))
    program = files.read_problem(tmp_path / "problem.npz")
    assert isinstance(program, ca.GNII)
    assert torch.equal(program.value, value)
    assert torch.equal(program.gradient, gradient)
    assert ca.certify(program, ca.solve(program)).holds().all()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (archive(value=None), "has no array 'value'"),
        (archive(gradient=None), "has no array 'gradient'"),
        (archive(program=None), "has no array 'program'"),
        (archive(program="fgsm"), "program 'fgsm' is unknown: use one of gn, gnii, min-norm, operator-norm"),
        (archive(program=3), "program 3 is unknown"),
        (archive(program=["gn", "gn"]), "program must be a single entry, got shape (2,)"),
        (archive(p=None), "p is missing"),
        (archive(p=0.5), "p must be in [1, inf], got p = 0.5"),
        (archive(p=math.nan), "p must be in [1, inf], got p = nan"),
        (archive(p="two"), "p must hold numbers, got <U3"),
        (archive(p=[2.0, 2.0]), "p must be a single entry"),
        (archive(radius=-1.0), "radius must be a finite number >= 0, got -1.0"),
        (archive(radius=None), "radius is missing"),
        (archive(radius=[0.5, 0.5]), "radius must be a number or have shape (N,) = (5,), got shape (2,)"),
        (archive(program="min-norm"), "radius has no place in min-norm"),
        (archive(eps=1.0), "has an array 'eps', which means nothing here"),
        (archive(value=[1, 2, 3, 4, 5]), "value holds int64, not floating-point numbers: save it as float64"),
        (archive(gradient=np.ones((N, D), dtype=complex)), "gradient holds complex128"),
        (archive(gradient=np.ones((N, D), dtype=np.longdouble)), "gradient holds"),
        (archive(gradient=np.ones(N)), "gradient must have shape (N, d), d >= 1, got (5,)"),
        (archive(gradient=np.ones((0, D)), value=np.ones(0)), "gradient of shape (0, 7) is empty"),
        (archive(value=np.ones(3)), "value must have shape (N,) = (5,)"),
        (archive(lower=1.0, upper=0.0), "the box is empty: lower = 1.0 is above upper = 0.0"),
        (archive(lower=np.ones(3)), "lower must be a number or broadcast to (N, d) = (5, 7), got shape (3,)"),
        (archive(upper=np.array([b"x"])), "upper must hold numbers"),
        (archive(value=np.array([None] * N)), "is no NumPy archive to be read without pickle"),
        (archive(), "has no array 'eta'"),
        (solved(eta=np.ones((N, 2))), "eta has shape (5, 2) instead of (5, 7)"),
        (solved(eta=np.ones((N, D), dtype=int)), "eta holds int64"),
        (solved(v_ball=np.ones((N, D))), "has multipliers but no 'status'"),
        (solved(v_ball=np.ones((N, 2)), status=["OPTIMAL"] * N), "v_ball has shape (5, 2) instead of (5, 7)"),
        (
            solved(v_box=np.ones((N, D)), status=["OPTIMAL"] * N),
            "has 'v_box', a multiplier of something that its problem does not have",
        ),
        (
            solved(lower=-1.0, v_box=np.ones((N, D)), status=["OPTIMAL"] * N),
            "has the multiplier 'v_box' but not 'v_ball'",
        ),
        (solved(status=["OPTIMAL"] * 2), "status must be N = 5 strings, got <U7 of shape (2,)"),
        (solved(status=[1] * N), "status must be N = 5 strings"),
        (solved(status=["FINE"] * N), "status has 'FINE', which is none: use OPTIMAL, FEASIBLE"),
    ],
    ids=lambda x: x[:40] if isinstance(x, str) else "",
)
def test_a_malformed_field_is_one_sentence(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "solution.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"solution\.npz") as error:
        files.read_solution(path)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def as_pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04}\x94\x8c\x05value\x94K\x01s.")  # {"value": 1}


def as_one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def as_half(path: Path) -> None:
    np.savez(path, **archive())
    path.write_bytes(path.read_bytes()[:700])


def as_flipped(path: Path) -> None:
    np.savez(path, **archive())
    content = bytearray(path.read_bytes())
    at = content.index(numbers()[1].numpy().tobytes())
    content[at + 9] ^= 255
    path.write_bytes(content)


def as_nothing(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("spoil", [as_pickle, as_one_array, as_half, as_flipped, as_nothing])
def test_a_file_of_another_kind_is_refused(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    spoil(tmp_path / "problem.npz")
    with pytest.raises(
        ValueError, match=r"problem\.npz is no NumPy archive to be read without pickle \(.+\): write numbers with"
    ):
        files.read_problem(tmp_path / "problem.npz")


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npz does not exist: give the path"):
        files.read_problem(tmp_path / "none.npz")
    with pytest.raises(OSError, match=r"cannot be read \(Is a directory\)"):
        files.read_problem(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl does not exist"):
        list(files.read_records(tmp_path / "none.jsonl"))


def good_record() -> dict[str, Any]:
    program = ca.MinNorm(*numbers(), ca.Lp(2))
    return files.as_record(program, 0, {"closed_form": ca.solve(program)})


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"problem": {"dtype": "float8"}}', json.dumps(good_record() | {"claims": 3}), "\xff"]
)
def test_a_line_that_is_no_record_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    text = (json.dumps(good_record()) + "\n" + line + "\n").encode("latin-1")
    path.write_bytes(text + footer(2, text))
    with pytest.raises(ValueError, match=r"records\.jsonl:2 is no record"):
        list(files.read_records(path))


def footer(count: int, text: bytes) -> bytes:
    return json.dumps({"count": count, "sha256": hashlib.sha256(text).hexdigest()}).encode() + b"\n"


@pytest.mark.parametrize(
    "spoil",
    {
        "empty": lambda lines: [],
        "no record": lambda lines: [footer(0, b"")],
        "cut": lambda lines: lines[:-1],
        "a record lost": lambda lines: lines[1:],
        "a record twice": lambda lines: [lines[0], *lines],
        "another order": lambda lines: [lines[1], lines[0], *lines[2:]],
        "edited": lambda lines: [lines[0].replace(b"OPTIMAL", b"INVALID"), *lines[1:]],
        "the file twice": lambda lines: [*lines, *lines],
        "another count": lambda lines: [*lines[:-1], lines[-1].replace(b'"count": 5', b'"count": 4')],
    }.items(),
    ids=lambda case: case[0],
)
def test_records_that_are_not_those_written_are_refused(
    spoil: tuple[str, Callable[[list[bytes]], list[bytes]]], tmp_path: Path
) -> None:
    path, program = tmp_path / "records.jsonl", ca.MinNorm(*numbers(), ca.Lp(2))
    with files.appending(path) as append:
        for i in range(N):
            append(files.as_record(program, i, {"closed_form": ca.solve(program)}))
    assert len(list(files.read_records(path))) == N
    path.write_bytes(b"".join(spoil[1](path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=r"records\.jsonl (is not what was written|holds no record): .*write it anew"):
        list(files.read_records(path))


# --- any sets ---------------------------------------------------------------------------------------------------------

OWN: dict[str, Callable[[], ca.ConvexSet]] = {
    "halfspaces": lambda: ca.Halfspaces(torch.ones(2, D).double(), torch.tensor([1.0, INF])),
    "rows an item": lambda: ca.ConvexSet(ca.atoms.Interval(-1.0, 1.0), ca.maps.Rows(torch.ones(N, 1, D)), "mine"),
    "affine": lambda: ca.Affine(torch.ones(1, D).double(), torch.zeros(N, 1)),
    "weights": lambda: ca.WeightedBall(ca.Lp(1.5), torch.arange(D).double(), torch.ones(N)),
    "groups": lambda: ca.GroupBall(torch.arange(D) // 3, 0.5),
    "total variation": lambda: ca.TotalVariation((1, D), 0.25, isotropic=True),
    "mask": lambda: ca.Support(torch.arange(D) % 2 == 0),
    "a moved ball": lambda: ca.Ball(ca.Lp(2), 1.0).shifted(numbers()[1] / 10),
    "a second ball": lambda: ca.Ball(ca.Lp(INF), torch.ones(N)),
}


def claim_of(program: ca.Program) -> ca.Solution:
    """Some numbers for every tensor that a claim can have."""
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in program.multiplier_shapes]
    eta, inside = torch.randn(2, len(program), D, generator=generator, dtype=torch.float64)
    codes = torch.full((len(program),), ca.Status.OPTIMAL.code)
    return ca.Solution(eta, codes, tuple(made), inside=inside, ray=-inside)


@pytest.mark.parametrize("kind", ["gnii", "min-norm", "hinge-sum"])
@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_any_set_comes_back_bit_by_bit(make: Callable[[], ca.ConvexSet], kind: str, tmp_path: Path) -> None:
    (value, gradient), sets = numbers(), (ca.Ball(ca.Lp(2), 0.5), make())
    kinds: dict[str, Callable[[], ca.Program]] = {
        "gnii": lambda: ca.GNII(value, gradient, sets),
        "min-norm": lambda: ca.MinNorm(value, gradient, ca.Lp(1), sets),
        "hinge-sum": lambda: ca.HingeSum(value[:, None].repeat(1, 2), gradient[:, None].repeat(1, 2, 1), sets),
    }
    program = kinds[kind]()
    solution = claim_of(program)
    files.write_solution(tmp_path / "solution.npz", program, solution)
    again, claim = files.read_solution(tmp_path / "solution.npz")
    with files.appending(tmp_path / "records.jsonl") as append:
        for i in range(2):
            append(files.as_record(program, i, {"ours": solution}))
    assert isinstance(claim, ca.Solution)
    assert isinstance(again, ca.Program)
    assert [(type(part), part.label) for part in again.sets] == [(type(part), part.label) for part in program.sets]
    assert all(torch.equal(getattr(claim, name), getattr(solution, name)) for name in ("eta", "inside", "ray"))
    assert same(ca.certify(again, claim), ca.certify(program, solution))
    for i, (record, alone, found) in enumerate(files.read_records(tmp_path / "records.jsonl")):
        assert same(ca.certify(alone, found["ours"]), ca.certify(program[i : i + 1], solution[[i]]))
        assert files.certificate_records(ca.certify(alone, found["ours"])) == [record["claims"]["ours"]["certificate"]]


def test_a_text_does_not_fit_into_a_file(tmp_path: Path) -> None:
    import cvxpy as cp

    program = ca.GNII(*numbers(), (ca.Ball(ca.Lp(2), 0.5), ca.CustomSet(lambda eta: [cp.sum(eta) == 0])))
    for write in (
        lambda: files.write_solution(tmp_path / "a.npz", program, claim_of(program)),
        lambda: files.as_record(program, 0, {"ours": claim_of(program)}),
    ):
        with pytest.raises(
            ValueError, match=r"the set CustomSet does not fit into a file, .*no code.*compose the set of"
        ):
            write()
    assert list(tmp_path.iterdir()) == []


def own(**changes: Any) -> dict[str, Any]:
    """An archive with a halfspace, as written by hand."""
    arrays = archive(set0_label="edge", set0_atom="Interval", set0_atom_low=-INF, set0_atom_high=1.0, set0_map="Rows")
    arrays |= {"set0_map_matrix": np.ones((1, D))} | changes
    return {name: entry for name, entry in arrays.items() if entry is not None}


def test_a_set_can_be_written_by_hand(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", **own(eta=np.ones((N, D)), status=["OPTIMAL"] * N, u0=-np.ones((N, D)), u1=np.ones((N, 1)))
    )
    program, claim = files.read_solution(tmp_path / "a.npz")
    assert isinstance(program, ca.Program)
    assert isinstance(claim, ca.Solution)
    assert [part.label for part in program.sets] == ["Ball", "edge"]
    assert float(program.sets[1].violation(claim.eta)[0]) == D - 1
    assert [tuple(part.shape) for part in claim.multipliers] == [(N, D), (N, 1)]


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (own(set0_label=None), "'set0_atom' belongs to no set"),
        (own(set0_map=None), "set0_map is missing"),
        (own(set0_atom="Cone"), "set0_atom is 'Cone', which is none of Interval, NormBall"),
        (own(set0_atom="Rows"), "missing 1 required positional argument: 'matrix'"),
        (own(set0_atom="Identity"), "atom must be one of convexattack.atoms"),
        (own(set0_atom_low=2.0), "the box is empty: lower = 2.0 is above upper = 1.0"),
        (own(set0_atom_high=None), "missing 1 required positional argument: 'high'"),
        (own(set0_map_matrix=np.ones((1, 3))), "the matrix of rows must have shape (r, d)"),
        (own(set0_map_matrix=np.full((1, D), np.nan)), "the matrix of rows holds a NaN"),
        (own(set0_map_weights=np.ones(D)), "'set0_map_weights' belongs to no set"),
        (own(set2_label="far"), "'set2_label' belongs to no set"),
        (own(eta=np.ones((N, D)), status=["OPTIMAL"] * N, u0=np.ones((N, D))), "has the multiplier 'u0' but not 'u1'"),
        (own(eta=np.ones((N, D)), inside=np.ones(D)), "inside has shape (7,) instead of (5, 7)"),
    ],
    ids=lambda x: x[:40] if isinstance(x, str) else "",
)
def test_a_malformed_set_is_one_sentence(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=r"a\.npz") as error:
        files.read_solution(tmp_path / "a.npz")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


# --- (9): a Jacobian, one ball, and the multipliers y and F -----------------------------------------------------------

M = 3
P = [1.0, 1.5, 2.0, 3.0, INF]


def operator_norm(p: float, radius: float | Tensor = 0.5, dtype: torch.dtype = torch.float64) -> ca.OperatorNorm:
    jacobian = torch.randn(N, M, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jacobian[1, :, 2] = 0
    jacobian[3] = 0
    return ca.OperatorNorm(jacobian.to(dtype), ca.Ball(ca.Lp(p), radius))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("radius", [0.5, torch.linspace(0.5, 1, N).double()], ids=["radius", "radii"])
@pytest.mark.parametrize("p", P)
def test_a_bracket_comes_back_bit_by_bit(p: float, radius: float | Tensor, dtype: torch.dtype, tmp_path: Path) -> None:
    program = operator_norm(p, radius, dtype)
    solution = ca.solve(program)
    files.write_solution(tmp_path / "solution.npz", program, solution)
    again, claim = files.read_solution(tmp_path / "solution.npz")
    assert isinstance(again, ca.OperatorNorm)
    assert isinstance(again.jacobian, Tensor)
    assert isinstance(claim, ca.Solution)
    assert again.jacobian.dtype == claim.eta.dtype == dtype
    assert [part.shape for part in claim.multipliers] == [part.shape for part in solution.multipliers]
    assert torch.equal(claim.eta, solution.eta)
    assert list(claim.status) == list(solution.status)
    assert same(ca.certify(again, claim), ca.certify(program, solution))
    assert ca.certify(again, claim).holds().all()


@pytest.mark.parametrize("p", P)
def test_a_recorded_bracket_comes_back_bit_by_bit(p: float, tmp_path: Path) -> None:
    program = operator_norm(p, torch.linspace(0.5, 1, N).double(), torch.float32)
    claims = {"closed_form": ca.solve(program), "bare": ca.solve(program)}
    with files.appending(tmp_path / "records.jsonl") as append:
        for i in range(N):
            append(files.as_record(program, i, claims))
    for i, (record, alone, found) in enumerate(files.read_records(tmp_path / "records.jsonl")):
        assert record["problem"].keys() == {"program", "p", "radius", "dtype", "jacobian"}
        assert isinstance(alone, ca.OperatorNorm)
        assert isinstance(alone.jacobian, Tensor)
        assert isinstance(program.jacobian, Tensor)
        assert torch.equal(alone.jacobian[0], program.jacobian[i])
        for name, claim in found.items():
            assert torch.equal(claim.eta[0], claims[name].eta[i])
            assert all(
                torch.equal(a[0], b[i]) for a, b in zip(claim.multipliers, claims[name].multipliers, strict=True)
            )
            assert files.certificate_records(ca.certify(alone, claim)) == [record["claims"][name]["certificate"]]
        assert record["claims"]["closed_form"]["certificate"]["holds"]


def test_an_invalid_jacobian_is_recorded_and_comes_back(tmp_path: Path) -> None:
    jacobian = operator_norm(INF).J.clone()
    jacobian[1, 2, 0], jacobian[4, 0, 0] = math.nan, -INF
    program = ca.OperatorNorm(jacobian, ca.Ball(ca.Lp(INF), 1.0))
    with files.appending(tmp_path / "records.jsonl") as append:
        for i in range(N):
            append(files.as_record(program, i, {"closed_form": ca.solve(program)}))
    records = list(files.read_records(tmp_path / "records.jsonl"))
    assert [claims["closed_form"].status[0].name == "INVALID" for _, _, claims in records] == [
        False,
        True,
        False,
        False,
        True,
    ]
    assert records[4][0]["problem"]["jacobian"][0][0] == "-inf"
    again = records[1][1]
    assert isinstance(again, ca.OperatorNorm)
    assert torch.equal(again.J[0].nan_to_num(-7.0), jacobian[1].nan_to_num(-7.0))


def archive_of_norm(**changes: Any) -> dict[str, Any]:
    arrays = {"jacobian": operator_norm(2.0).J.numpy(), "program": "operator-norm", "p": 2, "radius": 0.5} | changes
    return {name: entry for name, entry in arrays.items() if entry is not None}


def claimed_norm(**changes: Any) -> dict[str, Any]:
    solution = ca.solve(operator_norm(2.0))
    y, F = (part.numpy() for part in solution.multipliers)
    return archive_of_norm(eta=solution.eta.numpy(), status=["OPTIMAL"] * N, y=y, F=F) | changes


@pytest.mark.parametrize("status", [None, ["OPTIMAL"] * N], ids=["eta alone", "with a status"])
def test_multipliers_of_a_singular_vector_are_found(status: list[str] | None, tmp_path: Path) -> None:
    arrays = {
        name: entry
        for name, entry in claimed_norm(status=status).items()
        if name not in ("y", "F") and entry is not None
    }
    np.savez(tmp_path / "a.npz", **arrays)
    program, claim = files.read_solution(tmp_path / "a.npz")
    assert isinstance(claim, Tensor) == (status is None)
    assert ca.certify(program, claim).holds().all()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            archive_of_norm(jacobian=None),
            "has no array 'jacobian': a problem needs jacobian (N, m, d), program, p and radius",
        ),
        (archive_of_norm(jacobian=np.ones((N, D))), "jacobian must have shape (N, m, d), m, d >= 1, got (5, 7)"),
        (archive_of_norm(jacobian=np.ones((0, M, D))), "jacobian of shape (0, 3, 7) is empty"),
        (archive_of_norm(jacobian=np.ones((N, M, D), dtype=int)), "jacobian holds int64, not floating-point numbers"),
        (archive_of_norm(value=np.ones(N)), "has an array 'value', which means nothing to operator-norm"),
        (archive_of_norm(gradient=np.ones((N, D))), "has an array 'gradient', which means nothing to operator-norm"),
        (
            archive(jacobian=np.ones((N, M, D))),
            "has an array 'jacobian', which means nothing to gnii: it needs value (N,), gradient",
        ),
        (archive_of_norm(p=None), "p is missing"),
        (
            archive_of_norm(radius=None),
            "radius is missing: without it nothing bounds the perturbation of operator-norm",
        ),
        (archive_of_norm(radius=np.ones(2)), "radius must be a number or have shape (N,) = (5,)"),
        (archive_of_norm(lower=-1.0), "lower and upper have no place in operator-norm"),
        (claimed_norm(eta=np.ones((N, M))), "eta has shape (5, 3) instead of (5, 7)"),
        (claimed_norm(F=None), "has the multiplier 'y' but not 'F'"),
        (claimed_norm(y=np.ones((N, M))), "y has shape (5, 3) instead of (5, 7)"),
        (claimed_norm(F=np.ones((N, D, M))), "F has shape (5, 7, 3) instead of (5, 3, 3)"),
        (claimed_norm(F=np.ones(N)), "F has shape (5,) instead of (5, 3, 5)"),
        (
            claimed_norm(v_ball=np.ones((N, D))),
            "has 'v_ball', a multiplier of something that its problem does not have",
        ),
        (claimed_norm(status=["BRACKETS"] * N), "status has 'BRACKETS', which is none: use OPTIMAL"),
    ],
    ids=lambda x: x[:40] if isinstance(x, str) else "",
)
def test_a_malformed_bracket_is_one_sentence(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "solution.npz"
    np.savez(path, **{name: entry for name, entry in arrays.items() if entry is not None})
    with pytest.raises(ValueError, match=r"solution\.npz") as error:
        files.read_solution(path)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_jacobian_that_is_not_held_does_not_fit_into_a_file(tmp_path: Path) -> None:
    program = ca.OperatorNorm.from_model(
        torch.nn.Linear(D, M).double(), torch.zeros(2, D).double(), ca.Ball(ca.Lp(2), 1.0)
    )
    with pytest.raises(
        ValueError, match=r"jacobian is matrix-free, which no file can hold: build ca\.OperatorNorm\(ca\.jacobian"
    ):
        files.write_solution(tmp_path / "a.npz", program, ca.solve(program))
    assert list(tmp_path.iterdir()) == []


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with files.atomically(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]
    with files.atomically(path) as part:
        part.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "new")]


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written \(Not a directory\): give a file in a folder"):
        files.check_writable(tmp_path / "file" / "a.npz")
    with (
        pytest.raises(OSError, match=r"cannot be written \(No such file or directory\)"),
        files.atomically(tmp_path / "no" / "a") as part,
    ):
        part.write_text("")
    with pytest.raises(IsADirectoryError, match="is a folder: give the name of a file"):
        files.check_writable(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_records_are_complete_lines_until_all_are_there(tmp_path: Path) -> None:
    path, part = tmp_path / "records.jsonl", tmp_path / "records.jsonl.part"
    path.write_text("old\n")

    def interrupted() -> None:
        with files.appending(path) as append:
            append({"a": 1})
            append({"b": 0.1})
            assert part.read_text() == '{"a": 1}\n{"b": 0.1}\n'
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (path.read_text(), part.read_text()) == ("old\n", '{"a": 1}\n{"b": 0.1}\n')
    with files.appending(path) as append:
        append({"c": 1})
    text = b'{"c": 1}\n'
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
        ("records.jsonl", text + footer(1, text))
    ]


def test_records_that_never_began_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files.appending(tmp_path / "records.jsonl"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
