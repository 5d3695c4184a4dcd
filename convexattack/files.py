"""Problems, solutions and records as NumPy archives and JSON lines, certified without a model. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexattack.certificates import Certificate, ExactCertificate
from convexattack.judged import certify
from convexattack.norms import Lp
from convexattack.programs import GN, GNII, MinNorm, OperatorNorm, Program
from convexattack.sets import Ball, Box, ConvexSet
from convexattack.solution import Solution, Status

__all__ = [
    "PROGRAMS",
    "appending",
    "as_record",
    "atomically",
    "built",
    "certificate_record",
    "check_writable",
    "name_of",
    "only",
    "read_problem",
    "read_records",
    "read_solution",
    "write_solution",
]

AnyProgram = Program | OperatorNorm
PROGRAMS: dict[str, type[GN | GNII | MinNorm | OperatorNorm]] = {
    "gn": GN,
    "gnii": GNII,
    "min-norm": MinNorm,
    "operator-norm": OperatorNorm,
}
"""The names of the programs in files and on the command line."""

_SCALARS = {"program", "p"}
_PROBLEM = ("value", "gradient", "jacobian", "program", "p", "radius", "lower", "upper")
_CLAIM = ("eta", "status", "lam", "v_ball", "v_box", "y", "F")
_FLOATS = {"float16", "float32", "float64"}
_UNREADABLE = (
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OverflowError,
    zlib.error,
)

Read = tuple[AnyProgram, Solution | Tensor]


def name_of(program: AnyProgram) -> str:
    """`gn`, `gnii`, `min-norm` or `operator-norm`."""
    return next(name for name, kind in PROGRAMS.items() if type(program) is kind)


# --- NumPy archives ---------------------------------------------------------------------------------------------------


def read_problem(path: str | PathLike[str]) -> AnyProgram:
    """The N programs of a problem.npz (or of a solution.npz, whose claim is ignored).

    Its arrays: `value` (N,) and `gradient` (N, d), or `jacobian` (N, m, d) for (9), of float16, float32 or float64;
    `program`, one of the names in `PROGRAMS`; `p` in [1, ∞]; for all but (8) `radius`, a number or (N,), of the ball
    ‖η‖_p ≤ radius; and, for all but (9), `lower`, `upper`, numbers or arrays that broadcast to (N, d), the bounds on η
    (one alone leaves the other side open). All three are in the units of the input.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no archive, one that needs pickle, or an array that is missing, unknown or malformed, by name.
    """
    return _problem(Path(path), _arrays(Path(path)))


def read_solution(path: str | PathLike[str]) -> Read:
    """The programs of a solution.npz and what is claimed of them: a `Solution`, or η (N, d) where the file has no more.

    On top of the arrays of `read_problem`: `eta` (N, d); `status` (N,), names of `Status`; and the multipliers: for (8)
    `lam` (N,), then `v_ball` and `v_box` (N, d), one for each set that the problem has; for (9) `y` (N, d) and `F`
    (N, m, r). Without multipliers they are recovered from η.

    Raises:
        FileNotFoundError, ValueError: as `read_problem`.
    """
    path = Path(path)
    arrays = _arrays(path)
    program = _problem(path, arrays)
    if "eta" not in arrays:
        raise ValueError(f"{path} has no array 'eta': add it, or let `convexattack solve` write the file")
    eta = torch.from_numpy(_floating(path, "eta", arrays["eta"]))
    shape = _eta_shape(program)
    if eta.shape != shape:
        raise ValueError(f"{path}: eta has shape {tuple(eta.shape)} instead of {shape}: give one row an item")
    names = _multiplier_names(program)
    given = [name for name in names if name in arrays]
    strange = [name for name in _CLAIM[2:] if name in arrays and name not in names]
    if strange:
        raise ValueError(
            f"{path} has {strange[0]!r}, a multiplier of something that its problem does not have: leave it out"
        )
    if given and given != names:
        missing = next(name for name in names if name not in given)
        raise ValueError(
            f"{path} has the multiplier {given[0]!r} but not {missing!r}: "
            "give all of them, or none to have them recovered"
        )
    if not given and "status" not in arrays:
        return program, eta
    if "status" not in arrays:
        raise ValueError(
            f"{path} has multipliers but no 'status': add one name of a status for each item, such as OPTIMAL"
        )
    if given:
        multipliers = tuple(torch.from_numpy(_floating(path, name, arrays[name])) for name in names)
        for name, part, wanted in zip(names, multipliers, _multiplier_shapes(program, multipliers), strict=True):
            if tuple(part.shape) != wanted:
                raise ValueError(
                    f"{path}: {name} has shape {tuple(part.shape)} instead of {wanted}: give one row an item"
                )
    else:
        multipliers, _ = program.recover(eta.to(torch.float64))
    return program, Solution(eta, _codes(path, arrays["status"], len(program)), multipliers)


def write_solution(path: str | PathLike[str], program: AnyProgram, solution: Solution) -> None:
    """Problem and claim together, so that the file can be certified by itself; it is in place whole, or not at all.

    Raises:
        ValueError: sets other than a ball and a box, for which the file has no arrays, or a matrix-free Jacobian.
        OSError: it cannot be written.
    """
    arrays = {name: _numpy(entry) for name, entry in _data(program).items()} | {"program": np.array(name_of(program))}
    arrays |= {name: np.asarray(_numpy(entry)) for name, entry in _described(program).items()}
    arrays |= {"eta": _numpy(solution.eta), "status": np.array([status.name for status in solution.status])}
    arrays |= {name: _numpy(part) for name, part in zip(_multiplier_names(program), solution.multipliers, strict=True)}
    with atomically(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive, all of known names."""
    known = (*_PROBLEM, *_CLAIM)
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one bare array")
            names = list(archive.files)
            arrays = {name: archive[name] for name in names if name in known}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist: give the path of an archive that numpy.savez wrote") from error
    except OSError as error:
        raise OSError(
            f"{path} cannot be read ({error.strerror or error}): give the path of an archive that numpy.savez wrote"
        ) from error
    except (zipfile.BadZipFile, *_UNREADABLE) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(
            f"{path} is no NumPy archive to be read without pickle ({reason}): write numbers with numpy.savez"
        ) from error
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{path} has an array {unknown[0]!r}, which means nothing here: use the names {', '.join(known)}"
        )
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}


def _problem(path: Path, arrays: Mapping[str, np.ndarray]) -> AnyProgram:
    if "program" not in arrays:
        raise ValueError(f"{path} has no array 'program': use one of {', '.join(PROGRAMS)}")
    for name in _SCALARS & arrays.keys():
        if arrays[name].shape != ():
            raise ValueError(
                f"{path}: {name} must be a single entry, got shape {arrays[name].shape}: save one problem a file"
            )
    fields: dict[str, Any] = {name: arrays[name].item() for name in _SCALARS & arrays.keys()}
    needed, words = _needs(fields["program"])
    for name in needed:
        if name not in arrays:
            raise ValueError(f"{path} has no array {name!r}: a problem needs {words}")
    strange = [name for name in ("value", "gradient", "jacobian") if name in arrays and name not in needed]
    if strange:
        raise ValueError(
            f"{path} has an array {strange[0]!r}, which means nothing to {fields['program']}: it needs {words}"
        )
    for name in {"p", "radius", "lower", "upper"} & arrays.keys():
        if arrays[name].dtype.kind not in "fiu":
            raise ValueError(f"{path}: {name} must hold numbers, got {arrays[name].dtype}: save it as float64")
    for name in {"radius", "lower", "upper"} & arrays.keys():
        bound = arrays[name].astype(np.float64)
        fields[name] = torch.from_numpy(bound) if bound.ndim else float(bound)
    data = {name: torch.from_numpy(_floating(path, name, arrays[name])) for name in needed}
    last = data[needed[-1]]
    if last.numel() == 0:
        raise ValueError(f"{path}: {needed[-1]} of shape {tuple(last.shape)} is empty: give at least one item")
    try:
        return built(fields, data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _needs(program: Any) -> tuple[tuple[str, ...], str]:
    """The data of a program by its name, and what a problem needs in words."""
    if program == "operator-norm":
        return ("jacobian",), "jacobian (N, m, d), program, p and radius"
    return ("value", "gradient"), "value (N,), gradient (N, d), program and p"


def _floating(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in _FLOATS:
        raise ValueError(
            f"{path}: {name} holds {array.dtype}, not floating-point numbers: save it as float64, {name}.astype(float)"
        )
    return np.require(array, requirements=["C", "W"])


def _codes(path: Path, names: np.ndarray, n: int) -> Tensor:
    if names.shape != (n,) or names.dtype.kind != "U":
        raise ValueError(
            f"{path}: status must be N = {n} strings, got {names.dtype} of shape {names.shape}: "
            "give one name for each item"
        )
    unknown = [name for name in names.tolist() if name not in Status.__members__]
    if unknown:
        raise ValueError(f"{path}: status has {unknown[0]!r}, which is none: use {', '.join(Status.__members__)}")
    return torch.tensor([Status[name].code for name in names.tolist()], dtype=torch.int8)


def _numpy(entry: float | Tensor) -> Any:
    return entry.detach().cpu().numpy() if isinstance(entry, Tensor) else entry


# --- a program as fields, the same in archives and records ------------------------------------------------------------


def built(fields: Mapping[str, Any], data: Mapping[str, Tensor]) -> AnyProgram:
    """The program of the fields program, p, radius, lower, upper and its data (value and gradient, or jacobian).

    Raises:
        ValueError: a field that is missing, unknown or out of place: the sentence names it.
    """
    name, p, radius = fields["program"], fields.get("p"), fields.get("radius")
    if name not in PROGRAMS:
        raise ValueError(f"program {name!r} is unknown: use one of {', '.join(PROGRAMS)}")
    box: tuple[ConvexSet, ...] = ()
    if "lower" in fields or "upper" in fields:
        box = (Box(fields.get("lower", -math.inf), fields.get("upper", math.inf)),)
    if p is None and (name in ("min-norm", "operator-norm") or radius is not None):
        raise ValueError("p is missing: it says which norm measures the perturbation, a number in [1, inf]")
    if name == "operator-norm":
        if box:
            raise ValueError(
                "lower and upper have no place in operator-norm: (9) takes one ball, p and radius; leave them out"
            )
        if radius is None:
            raise ValueError("radius is missing: without it nothing bounds the perturbation of operator-norm")
        return OperatorNorm(data["jacobian"], Ball(Lp(p), radius))  # type: ignore[arg-type]
    value, gradient = data["value"], data["gradient"]
    if name == "min-norm":
        if radius is not None:
            raise ValueError(
                "radius has no place in min-norm, which minimizes the norm itself: leave it out, or use gnii"
            )
        return MinNorm(value, gradient, Lp(p), box)  # type: ignore[arg-type]
    if radius is None and not box:
        raise ValueError(
            f"radius is missing: without it, or lower and upper, nothing bounds the perturbation of {name}"
        )
    ball = () if radius is None else (Ball(Lp(p), radius),)  # type: ignore[arg-type]
    return (GN if name == "gn" else GNII)(value, gradient, (*ball, *box))


def _data(program: AnyProgram) -> dict[str, Tensor]:
    """The tensors of a program, by their names in a file."""
    if not isinstance(program, OperatorNorm):
        return {"value": program.value, "gradient": program.gradient}
    if not isinstance(program.jacobian, Tensor):
        raise ValueError(
            "jacobian is matrix-free, which no file can hold: build ca.OperatorNorm(ca.jacobian(model, x), ball)"
        )
    return {"jacobian": program.jacobian}


def _eta_shape(program: AnyProgram) -> tuple[int, int]:
    """(N, d)."""
    n, *_, d = program.shape if isinstance(program, OperatorNorm) else program.gradient.shape
    return n, d


def _described(program: AnyProgram) -> dict[str, Any]:
    """p, radius, lower and upper of a program, as far as it has them."""
    if isinstance(program, OperatorNorm):
        return {"p": program.norm.p, "radius": program.ball.radius}
    kinds = [type(item) for item in program.sets]
    if kinds not in ([], [Box]) and (isinstance(program, MinNorm) or kinds not in ([Ball], [Ball, Box])):
        found = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"sets ({found}) do not fit into a file: it holds a Ball (not with min-norm) and then a Box")
    fields: dict[str, Any] = {"p": program.norm.p} if isinstance(program, MinNorm) else {}
    for item in program.sets:
        if isinstance(item, Ball):
            fields |= {"p": item.norm.p, "radius": item.radius}
        elif isinstance(item, Box):
            fields |= {"lower": item.lower, "upper": item.upper}
    return fields


def _multiplier_names(program: AnyProgram) -> list[str]:
    if isinstance(program, OperatorNorm):
        return ["y", "F"]
    sets = ["v_ball" if isinstance(item, Ball) else "v_box" for item in program.sets]
    return ["lam", *sets] if isinstance(program, MinNorm) else sets


def _multiplier_shapes(program: AnyProgram, multipliers: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
    if not isinstance(program, OperatorNorm):
        return program.multiplier_shapes
    n, m, d = program.shape
    return [(n, d), (n, m, multipliers[1].shape[-1] if multipliers[1].ndim else 1)]


# --- records ----------------------------------------------------------------------------------------------------------


def only(program: AnyProgram, i: int) -> AnyProgram:
    """Item i of a program with the sets that a file can hold, as a program of its own (N = 1)."""
    data = {name: entry[i : i + 1] for name, entry in _data(program).items()}
    return built({"program": name_of(program), **_of_item(program, i)}, data)


def as_record(program: AnyProgram, i: int, claims: Mapping[str, Solution]) -> dict[str, Any]:
    """Item i as one JSON object, which `read_records` reads bit by bit: problem, and each claim with its certificate.

    Floats are written by `repr`, which is exact; what JSON cannot say is the string "nan", "inf" or "-inf". The
    certificate is of this item alone, for a kernel may round an item differently in a batch.
    """
    alone, names = only(program, i), _multiplier_names(program)
    fields = {name: _plain(entry) for name, entry in _of_item(program, i).items()}
    data = _data(program)
    dtype = str(data[_needs(name_of(program))[0][-1]].dtype).removeprefix("torch.")
    problem = {"program": name_of(program), **fields, "dtype": dtype} | {
        name: _plain(entry[i]) for name, entry in data.items()
    }
    found = {}
    for path, solution in claims.items():
        row = slice(i, i + 1)
        claim = Solution(solution.eta[row], solution.codes[row], tuple(part[row] for part in solution.multipliers))
        found[path] = {
            "status": claim.status[0].name,
            "eta": _plain(claim.eta[0]),
            "multipliers": {name: _plain(part[0]) for name, part in zip(names, claim.multipliers, strict=True)},
            "certificate": certificate_record(certify(alone, claim), 0),
        }
    return {"problem": problem, "claims": found}


def _of_item(program: AnyProgram, i: int) -> dict[str, Any]:
    """`_described` of item i: a radius is a number, a bound a number or (d,)."""

    def of(name: str, entry: float | Tensor) -> float | Tensor:
        if not isinstance(entry, Tensor) or entry.ndim == 0:
            return float(entry)
        return float(entry[i]) if name == "radius" else entry.expand(_eta_shape(program))[i]

    return {name: of(name, entry) for name, entry in _described(program).items()}


def certificate_record(certificate: Certificate, i: int) -> dict[str, Any]:
    """What was proved of item i: primal, dual, gap, violation, residual (floats, exact), proved (a status), holds.

    Of an exact certificate its verdict as well, and the enclosures [lower, upper], numbers written as fractions.
    """
    members = list(Status)
    numbers = {
        name: _plain(getattr(certificate, name)[i]) for name in ("primal", "dual", "gap", "violation", "residual")
    }
    record = {**numbers, "proved": members[int(certificate.proved[i])].name, "holds": bool(certificate.holds()[i])}
    if isinstance(certificate, ExactCertificate):
        proof = certificate.proofs[i]
        ends = {name: getattr(proof, name) for name in ("primal", "dual", "gap", "violation")}
        enclosures = {name: [str(pair.lower), str(pair.upper)] for name, pair in ends.items()}
        record |= {"verdict": proof.verdict.name, "because": proof.why, "enclosures": enclosures}
    return record


def read_records(path: str | PathLike[str]) -> Iterator[tuple[dict[str, Any], AnyProgram, dict[str, Solution]]]:
    """Each line of a records.jsonl: the record, its program (N = 1), and its claims by name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is no record; the sentence has its number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the records.jsonl that `convexattack verify --out` wrote")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                program, claims = _from_record(record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise ValueError(
                    f"{path}:{number} is no record ({reason}): give what `convexattack verify --out` wrote"
                ) from error
            yield record, program, claims


def _from_record(record: Mapping[str, Any]) -> tuple[AnyProgram, dict[str, Solution]]:
    problem = record["problem"]
    if problem["dtype"] not in _FLOATS:
        raise ValueError(f"dtype {problem['dtype']!r} is none of {', '.join(sorted(_FLOATS))}")
    dtype = getattr(torch, problem["dtype"])
    fields: dict[str, Any] = {"program": problem["program"]}
    for name in {"p", "radius", "lower", "upper"} & problem.keys():
        fields[name] = (
            _tensor(problem[name], torch.float64) if isinstance(problem[name], list) else float(problem[name])
        )
    program = built(fields, {name: _tensor(problem[name], dtype)[None] for name in _needs(problem["program"])[0]})
    claims = {}
    for path, claim in record["claims"].items():
        multipliers = tuple(
            _tensor(claim["multipliers"][name], torch.float64)[None] for name in _multiplier_names(program)
        )
        code = torch.tensor([Status[claim["status"]].code], dtype=torch.int8)
        claims[path] = Solution(_tensor(claim["eta"], dtype)[None], code, multipliers)
    return program, claims


def _tensor(entry: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(_floats(entry), dtype=dtype)


def _floats(entry: Any) -> Any:
    return [_floats(x) for x in entry] if isinstance(entry, list) else float(entry)


def _plain(entry: float | Tensor) -> Any:
    """A float, or a list of them, that JSON can hold."""
    number = entry.tolist() if isinstance(entry, Tensor) else entry
    if isinstance(number, list):
        return [_plain(x) for x in number]
    return number if math.isfinite(number) else str(number)


# --- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def atomically(path: str | PathLike[str]) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once all went well; otherwise nothing is left of it.

    Raises OSError, in a sentence, where it cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink()


def check_writable(path: str | PathLike[str]) -> None:
    """Raise OSError, in a sentence, unless a file can be written at `path`; leaves nothing behind."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def appending(path: str | PathLike[str]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that appends one object as one line of JSON, to `path`.part until all is well, then renamed to `path`.

    Whenever it ends early the .part holds complete lines only; without any it goes.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    end = 0
    try:
        with part.open("wb", buffering=0) as file:

            def append(record: Mapping[str, Any]) -> None:
                nonlocal end
                line = (json.dumps(record, allow_nan=False) + "\n").encode()
                if file.write(line) != len(line):
                    raise OSError(f"{part} cannot take another line: make room on its disk")
                end += len(line)

            try:
                yield append
            except BaseException:
                file.truncate(end)
                raise
        os.replace(part, path)
    finally:
        if end == 0:
            part.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> OSError:
    return OSError(
        f"{path} cannot be written ({error.strerror or error}): give a file in a folder that can be written to"
    )
