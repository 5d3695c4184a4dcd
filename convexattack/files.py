"""Problems, solutions and records as NumPy archives and JSON lines, certified without a model. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
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
from convexattack.programs import GN, GNII, HingeSum, MinNorm, OperatorNorm, Program
from convexattack.sets import Ball, Box, ConvexSet
from convexattack.sets.record import ball_and_box, from_record, to_record
from convexattack.solution import Solution, Status
from convexattack.solvers import solve

__all__ = [
    "PROGRAMS",
    "appending",
    "as_record",
    "atomically",
    "built",
    "certificate_records",
    "check_writable",
    "name_of",
    "read_problem",
    "read_records",
    "read_solution",
    "write_solution",
]

AnyProgram = Program | OperatorNorm
PROGRAMS: dict[str, type[Program] | type[OperatorNorm]] = {
    "gn": GN,
    "gnii": GNII,
    "min-norm": MinNorm,
    "operator-norm": OperatorNorm,
}
"""The names of the paper's programs in files and on the command line."""

_HELD: dict[str, type[Program] | type[OperatorNorm]] = PROGRAMS | {"hinge-sum": HingeSum}
_SCALARS = {"program", "p"}
_PROBLEM = ("value", "gradient", "jacobian", "program", "p", "radius", "lower", "upper")
_CLAIM = ("eta", "status", "inside", "ray", "lam", "u", "v_ball", "v_box", "y", "F")
_NOT_MULTIPLIERS = 4  # of `_CLAIM`
_POINTS = ("eta", "inside", "ray")
_SET, _OWN = re.compile(r"set\d+_\w+"), re.compile(r"u\d+")
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
    """`gn`, `gnii`, `min-norm`, `operator-norm`, or `hinge-sum`."""
    return next(name for name, kind in _HELD.items() if type(program) is kind)


# --- NumPy archives ---------------------------------------------------------------------------------------------------


def read_problem(path: str | PathLike[str]) -> AnyProgram:
    """The N programs of a problem.npz (or of a solution.npz, whose claim is ignored).

    Its arrays: `value` (N,) and `gradient` (N, d), or `jacobian` (N, m, d) for (9), of float16, float32 or float64;
    `program`, one of the names in `PROGRAMS`; `p` in [1, ∞]; for all but (8) `radius`, a number or (N,), of the ball
    ‖η‖_p ≤ radius; and, for all but (9), `lower`, `upper`, numbers or arrays that broadcast to (N, d), the bounds on η
    (one alone leaves the other side open). All three are in the units of the input. Other sets are `set0_label`,
    `set0_atom` and so on, see `convexattack.sets.record`. For `program` "hinge-sum" there are P rows an item: `value`
    (N, P), `gradient` (N, P, d).

    Raises:
        FileNotFoundError: no such file.
        ValueError: no archive, one that needs pickle, or an array that is missing, unknown or malformed, by name.
    """
    return _problem(Path(path), _arrays(Path(path)))


def read_solution(path: str | PathLike[str]) -> Read:
    """The programs of a solution.npz and what is claimed of them: a `Solution`, or η (N, d) where the file has no more.

    On top of the arrays of `read_problem`: `eta` (N, d); `status` (N,), names of `Status`; `inside` and `ray` (N, d) as
    in `Solution`, optional; and the multipliers: for (8) `lam` (N,), for hinges `u` (N, P), first; then `v_ball` and
    `v_box` (N, d), or for other sets `u0`, `u1`, ... (N, r), one for each set; for (9) `y` (N, d) and `F` (N, m, r).
    Without multipliers those of `solve` are taken.

    Raises:
        FileNotFoundError, ValueError: as `read_problem`.
    """
    path = Path(path)
    arrays = _arrays(path)
    program = _problem(path, arrays)
    if "eta" not in arrays:
        raise ValueError(f"{path} has no array 'eta': add it, or let `convexattack solve` write the file")
    shape = _eta_shape(program)
    points: dict[str, Any] = {
        name: torch.from_numpy(_floating(path, name, arrays[name])) for name in _POINTS if name in arrays
    }
    for name, point in points.items():
        _check_shape(path, name, point, shape)
    eta = points.pop("eta")
    names = _multiplier_names(program, arrays)
    given = [name for name in names if name in arrays]
    strange = [
        name for name in arrays if (name in _CLAIM[_NOT_MULTIPLIERS:] or _OWN.fullmatch(name)) and name not in names
    ]
    if strange:
        raise ValueError(
            f"{path} has {strange[0]!r}, a multiplier of something that its problem does not have: leave it out"
        )
    if given and given != names:
        missing = next(name for name in names if name not in given)
        raise ValueError(
            f"{path} has the multiplier {given[0]!r} but not {missing!r}: give all of them, or none to have them found"
        )
    if "status" not in arrays:
        if given:
            raise ValueError(
                f"{path} has multipliers but no 'status': add one name of a status for each item, such as OPTIMAL"
            )
        return program, eta
    codes = _codes(path, arrays["status"], len(program))
    if not given and names:
        found = solve(program)
        return program, Solution(eta, codes, found.multipliers, **{"inside": found.inside, "ray": found.ray, **points})
    multipliers = tuple(torch.from_numpy(_floating(path, name, arrays[name])) for name in names)
    for name, part, wanted in zip(names, multipliers, _multiplier_shapes(program, multipliers), strict=True):
        _check_shape(path, name, part, wanted)
    return program, Solution(eta, codes, multipliers, **points)


def write_solution(path: str | PathLike[str], program: AnyProgram, solution: Solution) -> None:
    """Problem and claim together, so that the file can be certified by itself; it is in place whole, or not at all.

    Raises:
        ValueError: a set that is a text, or a matrix-free Jacobian.
        OSError: it cannot be written.
    """
    named = {"program": name_of(program), **_data(program), **_described(program), **_claimed(program, solution)}
    arrays = {name: np.asarray(_numpy(entry)) for name, entry in named.items()}
    arrays["status"] = np.array([status.name for status in solution.status])
    with atomically(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive, all of known names."""

    def known(name: str) -> bool:
        return name in _PROBLEM or name in _CLAIM or bool(_SET.fullmatch(name) or _OWN.fullmatch(name))

    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one bare array")
            names = list(archive.files)
            arrays = {name: archive[name] for name in names if known(name)}
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
    unknown = [name for name in names if not known(name)]
    if unknown:
        raise ValueError(
            f"{path} has an array {unknown[0]!r}, which means nothing here: "
            f"use the names {', '.join((*_PROBLEM, *_CLAIM))}"
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
    needed, words = _needs(arrays["program"].item())
    for name in needed:
        if name not in arrays:
            raise ValueError(f"{path} has no array {name!r}: a problem needs {words}")
    strange = [name for name in ("value", "gradient", "jacobian") if name in arrays and name not in needed]
    if strange:
        raise ValueError(
            f"{path} has an array {strange[0]!r}, which means nothing to {arrays['program']}: it needs {words}"
        )
    for name in {"p", "radius", "lower", "upper"} & arrays.keys():
        if arrays[name].dtype.kind not in "fiu":
            raise ValueError(f"{path}: {name} must hold numbers, got {arrays[name].dtype}: save it as float64")
    data = {name: torch.from_numpy(_floating(path, name, arrays[name])) for name in needed}
    last = data[needed[-1]]
    if last.numel() == 0:
        raise ValueError(f"{path}: {needed[-1]} of shape {tuple(last.shape)} is empty: give at least one item")
    try:
        return built({name: _field(name, entry) for name, entry in arrays.items()}, data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _field(name: str, entry: np.ndarray) -> Any:
    """An array as `built` takes it: text, a float, a float64 tensor; of a set the array itself."""
    if entry.ndim == 0:
        return entry.item() if entry.dtype.kind not in "fiu" or name == "program" else float(entry)
    return torch.from_numpy(entry.astype(np.float64)) if name in ("radius", "lower", "upper") else entry


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


def _check_shape(path: Path, name: str, found: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(found.shape) != wanted:
        raise ValueError(f"{path}: {name} has shape {tuple(found.shape)} instead of {wanted}: give one row an item")


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


def _numpy(entry: Any) -> Any:
    return entry.detach().cpu().numpy() if isinstance(entry, Tensor) else entry


# --- programs and claims as fields, the same in archives and records --------------------------------------------------


def built(fields: Mapping[str, Any], data: Mapping[str, Tensor]) -> AnyProgram:
    """The program of the fields program, p, radius, lower, upper, those of other sets, and of its data.

    Raises:
        ValueError: a field that is missing, unknown or out of place: the sentence names it.
    """
    name, p, radius = fields["program"], fields.get("p"), fields.get("radius")
    if name not in _HELD:
        raise ValueError(f"program {name!r} is unknown: use one of {', '.join(PROGRAMS)}")
    sets: tuple[ConvexSet, ...] = _own_sets(fields)
    if "lower" in fields or "upper" in fields:
        sets = (Box(fields.get("lower", -math.inf), fields.get("upper", math.inf)), *sets)
    if p is None and (name in ("min-norm", "operator-norm") or radius is not None):
        raise ValueError("p is missing: it says which norm measures the perturbation, a number in [1, inf]")
    if name == "operator-norm":
        if sets:
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
        return MinNorm(value, gradient, Lp(p), sets)  # type: ignore[arg-type]
    if radius is None and not sets:
        raise ValueError(
            f"radius is missing: without it, or lower and upper, nothing bounds the perturbation of {name}"
        )
    ball = () if radius is None else (Ball(Lp(p), radius),)  # type: ignore[arg-type]
    return _HELD[name](value, gradient, (*ball, *sets))  # type: ignore[call-arg,arg-type]


def _own_sets(fields: Mapping[str, Any]) -> tuple[ConvexSet, ...]:
    """The sets set0, set1, ..., whose fields must all mean something."""
    sets: list[ConvexSet] = []
    while f"set{len(sets)}_label" in fields:
        sets.append(from_record(fields, f"set{len(sets)}"))
    known = {name for j, item in enumerate(sets) for name in to_record(item, f"set{j}")}
    strange = [name for name in fields if _SET.fullmatch(name) and name not in known]
    if strange:
        raise ValueError(
            f"{strange[0]!r} belongs to no set: sets are numbered from set0, and each has a label, an atom and a map"
        )
    return tuple(sets)


def _plain_sets(program: Program) -> tuple[Ball | None, Box | None] | None:
    """The ball and the box of a program that has no other set; (8) has no room for a ball, for p is its own norm's."""
    pair = ball_and_box(program.sets)
    return None if pair is not None and pair[0] is not None and program.norm is not None else pair


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
    """p, radius, lower and upper of a program, as far as it has them, and the fields of other sets."""
    if isinstance(program, OperatorNorm):
        return {"p": program.norm.p, "radius": program.ball.radius}
    fields: dict[str, Any] = {} if program.norm is None else {"p": program.norm.p}
    pair = _plain_sets(program)
    if pair is None:
        return fields | {
            name: entry for j, item in enumerate(program.sets) for name, entry in to_record(item, f"set{j}").items()
        }
    ball, box = pair
    fields |= {} if ball is None else {"p": ball.norm.p, "radius": ball.radius}
    return fields | ({} if box is None else {"lower": box.lower, "upper": box.upper})


def _claimed(program: AnyProgram, solution: Solution) -> dict[str, Tensor]:
    """The tensors of a claim, by their names in a file."""
    points = {name: getattr(solution, name) for name in _POINTS}
    multipliers = dict(zip(_multiplier_names(program), solution.multipliers, strict=True))
    return {name: point for name, point in points.items() if point is not None} | multipliers


def _multiplier_names(program: AnyProgram, given: Collection[str] = ()) -> list[str]:
    """v_ball and v_box where the sets are no others, and nothing that is given says u0."""
    if isinstance(program, OperatorNorm):
        return ["y", "F"]
    first = ["lam"] if program.norm is not None else ["u"] if program.pieces else []
    pair = None if any(_OWN.fullmatch(name) for name in given) else _plain_sets(program)
    if pair is None:
        return first + [f"u{j}" for j in range(len(program.sets))]
    return first + [name for name, item in zip(("v_ball", "v_box"), pair, strict=True) if item is not None]


def _multiplier_shapes(program: AnyProgram, multipliers: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
    if not isinstance(program, OperatorNorm):
        return program.multiplier_shapes
    n, m, d = program.shape
    return [(n, d), (n, m, multipliers[1].shape[-1] if multipliers[1].ndim else 1)]


# --- records ----------------------------------------------------------------------------------------------------------


def as_record(program: AnyProgram, i: int, claims: Mapping[str, Solution]) -> dict[str, Any]:
    """Item i as one JSON object, which `read_records` reads bit by bit: problem, and each claim with its certificate.

    Floats are written by `repr`, which is exact; what JSON cannot say is the string "nan", "inf" or "-inf". The
    certificate is of this item alone, for a kernel may round an item differently in a batch.
    """
    data = _data(program)
    dtype = str(data[_needs(name_of(program))[0][-1]].dtype).removeprefix("torch.")
    alone, found = program[i : i + 1], dict[str, Any]()
    fields = {name: _of_item(name, entry) for name, entry in _described(alone).items()}
    problem = {"program": name_of(program), **fields, "dtype": dtype} | {
        name: _plain(entry[i]) for name, entry in data.items()
    }
    for path, solution in claims.items():
        claim = solution.take(torch.tensor([i]))
        parts = {name: _plain(part[0]) for name, part in _claimed(program, claim).items()}
        points = {name: parts.pop(name) for name in _POINTS if name in parts}
        certificate = certificate_records(certify(alone, claim))[0]
        found[path] = {"status": claim.status[0].name, **points, "multipliers": parts, "certificate": certificate}
    return {"problem": problem, "claims": found}


def _of_item(name: str, entry: Any) -> Any:
    """A field of one item as JSON holds it: a radius is a number, a bound a number or (d,)."""
    if isinstance(entry, Tensor) and entry.ndim > {"radius": 0, "lower": 1, "upper": 1}.get(name, entry.ndim):
        entry = entry[0]
    return entry if isinstance(entry, str) else _plain(entry)


def certificate_records(certificate: Certificate) -> list[dict[str, Any]]:
    """What was proved of each item: the certificate's numbers, each float exact; `proved`, a status; `holds`; `why`.

    Of an exact certificate its verdict as well, and the enclosures [lower, upper], numbers written as fractions.
    """
    members, names = list(Status), ("primal", "dual", "gap", "violation", "residual", "scale")
    columns = {name: _plain(getattr(certificate, name)) for name in names}
    columns |= {
        "proved": [members[code].name for code in certificate.proved.tolist()],
        "holds": certificate.holds().tolist(),
    }
    columns["why"] = certificate.why.tolist()
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for record, proof in zip(
        records, certificate.proofs if isinstance(certificate, ExactCertificate) else (), strict=False
    ):
        ends = {name: getattr(proof, name) for name in ("primal", "dual", "gap", "violation")}
        enclosures = {name: [str(pair.lower), str(pair.upper)] for name, pair in ends.items()}
        record |= {"verdict": proof.verdict.name, "enclosures": enclosures}
    return records


def read_records(path: str | PathLike[str]) -> Iterator[tuple[dict[str, Any], AnyProgram, dict[str, Solution]]]:
    """Each record of a records.jsonl: the record, its program (N = 1), and its claims by name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is no record, by its number; a file that is not the one that was written.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the records.jsonl that `convexattack verify --out` wrote")
    count = _counted(path)
    with path.open("rb") as file:
        for number, line in zip(range(1, count + 1), file, strict=False):
            try:
                record = json.loads(line)
                program, claims = _from_record(record)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise ValueError(
                    f"{path}:{number} is no record ({reason}): give what `convexattack verify --out` wrote"
                ) from error
            yield record, program, claims


def _counted(path: Path) -> int:
    """How many records the last line counts, once its digest is found to be that of all lines before it."""
    digest, last, count = hashlib.sha256(), b"", -1
    with path.open("rb") as file:
        for line in file:
            digest.update(last)
            last, count = line, count + 1
    if last != _footer(count, digest.hexdigest()):
        raise ValueError(
            f"{path} is not what was written: it is empty, cut, or changed, for its last line is not the count and the "
            "digest of the others; write it anew with `convexattack verify --out`"
        )
    if count == 0:
        raise ValueError(f"{path} holds no record: write it anew with `convexattack verify --out`")
    return count


def _footer(count: int, digest: str) -> bytes:
    return (json.dumps({"count": count, "sha256": digest}) + "\n").encode()


def _from_record(record: Mapping[str, Any]) -> tuple[AnyProgram, dict[str, Solution]]:
    problem = record["problem"]
    if problem["dtype"] not in _FLOATS:
        raise ValueError(f"dtype {problem['dtype']!r} is none of {', '.join(sorted(_FLOATS))}")
    dtype = getattr(torch, problem["dtype"])
    needed = _needs(problem["program"])[0]
    program = built(
        {name: _from_json(name, entry) for name, entry in problem.items() if name not in needed},
        {name: _tensor(problem[name], dtype)[None] for name in needed},
    )
    claims = {}
    for path, claim in record["claims"].items():
        multipliers = tuple(
            _tensor(claim["multipliers"][name], torch.float64)[None] for name in _multiplier_names(program)
        )
        code = torch.tensor([Status[claim["status"]].code], dtype=torch.int8)
        points: dict[str, Any] = {name: _tensor(claim[name], dtype)[None] for name in _POINTS if name in claim}
        claims[path] = Solution(codes=code, multipliers=multipliers, **points)
    return program, claims


def _from_json(name: str, entry: Any) -> Any:
    """What `_of_item` wrote, as `built` takes it; whole numbers stay whole."""
    if isinstance(entry, str) and not (name in ("p", "radius", "lower", "upper") or entry in ("inf", "-inf", "nan")):
        return entry
    found = np.array(entry if isinstance(entry, list) and np.array(entry).dtype.kind == "i" else _floats(entry))
    return _field(name, found)


def _tensor(entry: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(_floats(entry), dtype=dtype)


def _floats(entry: Any) -> Any:
    return [_floats(x) for x in entry] if isinstance(entry, list) else float(entry)


def _plain(entry: Any) -> Any:
    """A number, or a list of them, that JSON can hold."""
    number = entry.tolist() if isinstance(entry, Tensor | np.ndarray) else entry
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

    The last line has the count and the digest of the others. Whenever it ends early the .part holds whole lines only;
    without any it goes.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    end, count, digest = 0, 0, hashlib.sha256()
    try:
        with part.open("wb", buffering=0) as file:

            def write(line: bytes) -> None:
                nonlocal end
                if file.write(line) != len(line):
                    raise OSError(f"{part} cannot take another line: make room on its disk")
                end += len(line)

            def append(record: Mapping[str, Any]) -> None:
                nonlocal count
                line = (json.dumps(record, allow_nan=False) + "\n").encode()
                write(line)
                digest.update(line)
                count += 1

            try:
                yield append
                write(_footer(count, digest.hexdigest()))
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
