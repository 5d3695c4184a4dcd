"""How a source can be wrong: every small change to its arithmetic, found by `ast`, one at a time.

An operator becomes another, a comparison moves its edge or turns round, a `not` or a minus goes, a minimum becomes a
maximum. An allowance is what the code adds for rounding: a name that says so (`slack`, `UNIT`, ...), a number that is
tiny or that makes up such a name's value. Its mutants take it away: the term is dropped, or the factor becomes 0.

Annotations, docstrings, messages, `raise`, decorators and `__all__` are left alone; so is the minus of an axis, as in
`x.sum(-1)`, and what can but fail at once, as a difference of strings or lists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "mutants", "mutated"]

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
PAIRS = [
    ("min", "max"), ("minimum", "maximum"), ("fmin", "fmax"), ("amin", "amax"), ("argmin", "argmax"),
    ("nanmin", "nanmax"), ("clamp_min", "clamp_max"), ("clamp_min_", "clamp_max_"), ("floor", "ceil"), ("all", "any"),
    ("round_down", "round_up"), ("add_", "sub_"), ("mul_", "div_"),
]  # fmt: skip
SWAPS = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
ALLOWANCE = re.compile(r"slack(?!ness)|error|blur|rounding|gamma|UNIT|SLACK|ERROR|BLUR|ROUNDING|GAMMA")
FINFO = {"eps", "tiny", "smallest_normal"}
TINY = 1e-6  # a number this small stands for rounding
AXES = {  # calls whose negative numbers say along which axis, or a size that follows from the others
    "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "cat", "cummax", "cumsum", "diff", "expand", "flatten",
    "flip", "gather", "index_select", "logsumexp", "max", "mean", "min", "movedim", "norm", "prod", "reshape",
    "scatter", "scatter_",
    "softmax", "sort", "squeeze", "stack", "sum", "take_along_dim", "topk", "transpose", "unflatten",
    "unsqueeze", "vector_norm", "view",
}  # fmt: skip
TYPES = {"bool", "bytes", "complex", "float", "int", "str"}


@dataclass(frozen=True)
class Mutant:
    """One change to one file: `text` in place of the bytes from `start` to `end`.

    Attributes:
        file: relative to the checkout.
        line, column: from 1, of the expression that is changed.
        code: the line as it stands, without what spaces say.
        what: the expression before and after.
        allowance: whether what goes is an allowance for rounding.
    """

    file: str
    line: int
    column: int
    code: str
    what: str
    allowance: bool
    start: int
    end: int
    text: str

    @property
    def said(self) -> str:
        """Where and what it is."""
        return f"{self.file}:{self.line}:{self.column}: {self.what}{' (allowance)' if self.allowance else ''}"

    @property
    def key(self) -> str:
        """Under which `reasons.json` says why it may survive: it outlives a change of other lines."""
        return f"{self.file} | {self.code} | {self.what}"


def mutants(file: str, source: str) -> list[Mutant]:
    """Every mutant of the source, in its order."""
    tree = ast.parse(source)
    sites = _Sites(tree)
    sites.visit(tree)
    lines = source.encode().split(b"\n")
    begins = [0]
    for line in lines:
        begins.append(begins[-1] + len(line) + 1)
    found = []
    for before, after, allowance in sites.found:
        assert before.end_lineno is not None
        assert before.end_col_offset is not None
        start = begins[before.lineno - 1] + before.col_offset
        end = begins[before.end_lineno - 1] + before.end_col_offset
        line = lines[before.lineno - 1]
        text, column = ast.unparse(after), len(line[: before.col_offset].decode()) + 1
        what = f"{ast.unparse(before)} -> {text}"
        code = " ".join(line.decode().split())
        wrapped = text if isinstance(after, ast.stmt) else f"({text})"
        found.append(Mutant(file, before.lineno, column, code, what, allowance, start, end, wrapped))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.column, mutant.what))


def mutated(source: str, mutant: Mutant) -> str:
    """The source with the mutant in it."""
    held = source.encode()
    return (held[: mutant.start] + mutant.text.encode() + held[mutant.end :]).decode()


Site = ast.expr | ast.AugAssign


class _Sites(ast.NodeVisitor):
    """What can be changed, as (before, after, whether it is an allowance)."""

    def __init__(self, tree: ast.AST) -> None:
        self.found: list[tuple[Site, Site, bool]] = []
        self.done: set[ast.AST] = set()  # what is dropped with its term, and what is left alone
        nodes = list(ast.walk(tree))
        self.functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.functions |= {name for alias in node.names if (name := alias.asname or alias.name).islower()}
        self.caught = {node.name for node in nodes if isinstance(node, ast.ExceptHandler)}

    # --- what is left alone -----------------------------------------------------------------------------------------

    def _nothing(self, node: ast.AST) -> None:
        """Neither the node nor what is in it."""

    visit_Raise = visit_JoinedStr = visit_Import = visit_ImportFrom = visit_Global = visit_Nonlocal = _nothing

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        given = node.args
        positional = [*given.posonlyargs, *given.args]
        defaults = [*zip(positional[len(positional) - len(given.defaults) :], given.defaults, strict=True)]
        for name, default in [*defaults, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]:
            if default is not None:
                self._defined([name.arg], default)
        if ALLOWANCE.search(node.name):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    self._literals(inner.value)
        self._each(node.body)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._each(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._defined([_name(node.target)], node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [_name(target) for target in node.targets]
        if "__all__" not in names:
            self._each(node.targets)
            self._defined(names, node.value)

    def visit_If(self, node: ast.If) -> None:
        if _name(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_match_case(self, node: ast.match_case) -> None:
        self._each([*filter(None, [node.guard]), *node.body])

    def _each(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    # --- what is changed --------------------------------------------------------------------------------------------

    def _change(self, before: Site, after: Site, allowance: bool = False) -> None:
        self.found.append((before, after, allowance))

    def visit_BinOp(self, node: ast.BinOp) -> None:
        sides = (node.left, node.right)
        if any(map(_is_text, sides)) or (isinstance(node.op, ast.BitOr) and any(map(_is_type, sides))):
            return
        if type(node.op) in OPERATORS and not any(map(_is_list, sides)):
            self._change(node, _with(node, op=OPERATORS[type(node.op)]()))
        if isinstance(node.op, ast.Add | ast.Sub):
            self._terms(node)
        elif isinstance(node.op, ast.Mult | ast.Div):
            self._factors(node)
        elif _tiny_power(node):
            self._change(node, ast.Constant(0), True)
        self.generic_visit(node)

    def _terms(self, node: ast.BinOp) -> None:
        """An allowance, or a product with one in it, is dropped from a sum."""
        for term, other in ((node.right, node.left), (node.left, node.right)):
            if ours := [factor for factor in _product(term) if self._is_allowance(factor)]:
                minus = term is node.left and isinstance(node.op, ast.Sub)
                self._change(node, ast.UnaryOp(ast.USub(), other) if minus else other, True)
                self.done.update(ours)

    def _factors(self, node: ast.BinOp) -> None:
        """Of several allowances in a product one is enough; a sum beside them makes them up."""
        factors = list(_product(node))
        if ours := [factor for factor in factors if self._is_allowance(factor)]:
            self.done.update(ours[1:])
            for factor in factors:
                if isinstance(factor, ast.BinOp):
                    self._literals(factor)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub | ast.Not | ast.Invert) and node not in self.done:
            self._change(node, node.operand)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._change(node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for k, op in enumerate(node.ops):
            none = any(isinstance(side, ast.Constant) and side.value is None for side in sides[k : k + 2])
            for other in () if none and isinstance(op, ast.Is | ast.IsNot) else COMPARISONS.get(type(op), ()):
                self._change(node, _with(node, ops=[*node.ops[:k], other(), *node.ops[k + 1 :]]))
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if _is_text(node.value):
            return
        if type(node.op) in OPERATORS and not _is_list(node.value):
            self._change(node, _with(node, op=OPERATORS[type(node.op)]()))
        self.visit(node.target)
        self._defined([_name(node.target)], node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            self._axis(node.slice)
        self.generic_visit(node)

    def _axis(self, node: ast.expr) -> None:
        """The minus of a number, or of one in a tuple, is left alone."""
        self.done.update(node.elts if isinstance(node, ast.Tuple) else [node] if isinstance(node, ast.UnaryOp) else [])

    def visit_Call(self, node: ast.Call) -> None:
        name = _name(node.func)
        if name in SWAPS:
            self._change(node, _with(node, func=_renamed(node.func, SWAPS[name])))
        if name in {"clamp", "clamp_", "clip"} and [keyword.arg for keyword in node.keywords] in (["min"], ["max"]):
            (bound,) = node.keywords
            self._change(node, _with(node, keywords=[ast.keyword(SWAPS[str(bound.arg)], bound.value)]))
        for argument in node.args if name in AXES else ():
            self._axis(argument)
        for keyword in node.keywords:
            if keyword.arg in {"dim", "axis"}:
                self._axis(keyword.value)
        self._zero(node)
        if isinstance(node.func, ast.Attribute):
            self.visit(node.func.value)
        elif not isinstance(node.func, ast.Name):
            self.visit(node.func)
        self._each(node.args[:1] if name in {"isinstance", "issubclass"} else node.args)
        for keyword in node.keywords:
            self._defined([keyword.arg or ""], keyword.value)

    def visit_Name(self, node: ast.Name) -> None:
        self._zero(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._zero(node)
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, float) and 0 < abs(node.value) <= TINY:
            self._no_number(node)

    # --- allowances -------------------------------------------------------------------------------------------------

    def _zero(self, node: ast.expr) -> None:
        """0·allowance is 0 in the shape of the allowance, whatever is done with it."""
        if node not in self.done and self._is_allowance(node):
            self._change(node, ast.BinOp(ast.Constant(0), ast.Mult(), node), True)

    def _is_allowance(self, node: ast.AST) -> bool:
        """A name in use that says so, or a call of such a function; no class, no function as such, no exception."""
        called = isinstance(node, ast.Call)
        name = _name(node.func) if isinstance(node, ast.Call) else _name(node)
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load) or not (name.islower() or name.isupper()):
            return False
        if isinstance(node, ast.Attribute) and name in FINFO:
            return True
        known = name in self.caught or (name in self.functions and isinstance(node, ast.Name))
        return bool(ALLOWANCE.search(name)) and (called or not known)

    def _defined(self, names: Iterable[str], value: ast.expr) -> None:
        if any(map(ALLOWANCE.search, names)):
            self._literals(value)
        self.visit(value)

    def _literals(self, node: ast.expr) -> None:
        """The numbers that make up an allowance become 0, but for factors of another, which becomes 0 itself."""
        match node:
            case ast.Constant():
                self._no_number(node)
            case ast.UnaryOp(op=ast.USub()):
                self._literals(node.operand)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                self._literals(node.left)
                self._literals(node.right)
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                factors = list(_product(node))
                bound = any(map(self._is_allowance, factors))
                for factor in factors:
                    if not (bound and isinstance(factor, ast.Constant)):
                        self._literals(factor)

    def _no_number(self, node: ast.Constant) -> None:
        number = isinstance(node.value, int | float) and not isinstance(node.value, bool) and node.value != 0
        if number and node not in self.done:
            self.done.add(node)
            self._change(node, ast.Constant(0.0 if isinstance(node.value, float) else 0), True)


def _with(node: ast.expr | ast.AugAssign, **fields: object) -> Site:
    changed: Site = type(node)(**{**dict(ast.iter_fields(node)), **fields})
    return changed


def _name(node: ast.AST) -> str:
    """The last part of a dotted name; "" for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _renamed(node: ast.expr, name: str) -> ast.expr:
    return (
        ast.Attribute(node.value, name, ast.Load()) if isinstance(node, ast.Attribute) else ast.Name(name, ast.Load())
    )


def _product(node: ast.expr) -> Iterator[ast.expr]:
    """The factors above the line, a minus aside."""
    match node:
        case ast.BinOp(op=ast.Mult()):
            yield from _product(node.left)
            yield from _product(node.right)
        case ast.BinOp(op=ast.Div()):
            yield from _product(node.left)
        case ast.UnaryOp(op=ast.USub()):
            yield from _product(node.operand)
        case _:
            yield node


def _tiny_power(node: ast.BinOp) -> bool:
    """2.0**-53 and the like."""
    match node:
        case ast.BinOp(
            left=ast.Constant(value=int() | float() as base),
            op=ast.Pow(),
            right=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as exponent)),
        ):
            return bool(base > 1 and exponent < 2000 and base**-exponent <= TINY)
    return False


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _is_list(node: ast.expr) -> bool:
    return isinstance(node, ast.List | ast.Tuple | ast.ListComp | ast.Set | ast.Dict | ast.SetComp | ast.DictComp)


def _is_type(node: ast.expr) -> bool:
    """As in `Tensor | None`, which is no disjunction."""
    if isinstance(node, ast.Subscript):
        return _is_type(node.value)
    name = _name(node)
    none = isinstance(node, ast.Constant) and node.value is None
    return none or name in TYPES or (name[:1].isupper() and not name.isupper())
