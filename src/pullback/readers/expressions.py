"""Expressions over the columns of a table: ``hypot(Jet_px, Jet_py)``, ``sum(Jet_pt[Jet_pt > 30])``.

They are read by Python's parser and computed here, over values of `Column`; nothing is executed. Numbers are computed
in double precision, whole numbers in 64 bits. A column has one number for each entry, or a list of numbers (the jets of
a collision). Numbers of entries are the same for all members of a list. What a column misses is missing in the result.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from pullback.readers.column_values import ExpressionError, Value, alike, for_arithmetic, is_list, nth, reduced, sums
from pullback.readers.columns import Column
from pullback.registry import did_you_mean

FUNCTIONS: dict[str, Any] = {
    name: getattr(np, name)
    for name in (
        *("sqrt", "exp", "log", "log10", "abs", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2"),
        *("sinh", "cosh", "tanh", "arcsinh", "hypot", "minimum", "maximum"),
    )
}
REDUCTIONS = ("sum", "count", "max", "min", "first", "nth")
"""One value of each list."""
LONGEST = 1000
"""Characters of an expression."""
KNOWN = (*FUNCTIONS, "where", *REDUCTIONS)

_ARITHMETIC: dict[type, Any] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Pow: np.power,
    ast.Mod: np.mod,
}
_LOGICAL: dict[type, Any] = {ast.BitAnd: np.bitwise_and, ast.BitOr: np.bitwise_or, ast.BitXor: np.bitwise_xor}
_COMPARISONS: dict[type, Any] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}


class Expression:
    """An expression over named columns.

    Names may have dots (``Jet.pt``); other names stand in quotes (``'Jet/Jet.PT' * 2``). ``a[3]`` is a member of each
    list, from 0 on; ``a[a > 30]`` are the members for which a condition holds.

    Args:
        text: the expression.

    Attributes:
        text: as it was given.
        columns: the names in it, in order.

    Raises:
        ExpressionError: it is none; what was found and what is allowed.
    """

    constants: ClassVar[dict[str, float]] = {"pi": float(np.pi)}

    def __init__(self, text: str):
        self.text = text
        if len(text) > LONGEST:
            raise ExpressionError(f"`{text[:60]}...` has {len(text)} characters, wanted at most {LONGEST}")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            hint = ": write & | ~ for and, or, not" if any(each in text for each in ("&&", "||", "!")) else ""
            raise ExpressionError(
                f"`{text}` is no expression{hint}; a column of such a name stands in quotes: \"'{text}'\""
            ) from None
        self.columns = tuple(dict.fromkeys(self._names(self._tree)))
        if not self.columns:
            raise ExpressionError(f"`{text}` names no column")

    @staticmethod
    def of_column(name: str) -> "Expression":
        """A column as it is, whatever its name."""
        found = object.__new__(Expression)
        found.text, found.columns, found._tree = name, (name,), ast.Constant(name)
        return found

    @property
    def is_column(self) -> bool:
        """Whether it is a column as it is."""
        return _name(self._tree) is not None

    def evaluate(self, column: Callable[[str], Column], first: int = 0) -> Column:
        """The values of some entries.

        Args:
            column: gives a column of these entries by its name.
            first: number of the first entry, for messages.

        Raises:
            ExpressionError: lists of other lengths, a number where a list is wanted, or the reverse.
        """
        try:
            with np.errstate(all="ignore"):
                found = _Evaluation(column, first).value(self._tree)
        except (OverflowError, TypeError) as error:  # numbers that no column can hold
            raise ExpressionError(f"`{self.text}` cannot be computed ({error})") from None
        assert isinstance(found, Column)
        return found

    def _names(self, node: ast.AST) -> Iterator[str]:
        """The columns that are named; everything that is not allowed is refused."""
        if (name := _name(node)) is not None:
            if name not in self.constants:
                yield name
            return
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bool) or not isinstance(node.value, int | float):
                raise self._refused(node)
            return
        if isinstance(node, ast.Call):
            yield from self._names_of_call(node)
            return
        if isinstance(node, ast.Compare):
            between = node.comparators[:-1]
            if any(isinstance(each, ast.BinOp) and type(each.op) in _LOGICAL for each in between):
                raise ExpressionError(f"`{self.text}`: put each comparison beside & and | in parentheses")
        allowed = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.Subscript)
        operators = [getattr(node, "op", None), *getattr(node, "ops", ())]
        known = {type(None), *_ARITHMETIC, *_LOGICAL, *_COMPARISONS, ast.USub, ast.UAdd, ast.Invert}
        if not isinstance(node, allowed) or not {type(each) for each in operators} <= known:
            raise self._refused(node)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.operator | ast.unaryop | ast.cmpop | ast.expr_context):
                yield from self._names(child)

    def _names_of_call(self, node: ast.Call) -> Iterator[str]:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name not in KNOWN:
            raise ExpressionError(
                f"`{self.text}`: there is no function '{name}'{did_you_mean(name, KNOWN)}; there are {', '.join(KNOWN)}"
            )
        wanted = {"where": 3, "nth": 2}.get(name, getattr(FUNCTIONS.get(name), "nin", 1))
        has_default = name in ("max", "min", "first", "nth")
        keys = [key.arg for key in node.keywords]
        if len(node.args) != wanted or (keys and not (has_default and keys == ["default"])):
            hint = f"; {name}imum(a, b) compares two columns" if name in ("max", "min") else ""
            more = " and perhaps default=NUMBER" if has_default else ""
            raise ExpressionError(f"`{self.text}`: {name} takes {wanted} values{more}{hint}")
        if name == "nth" and not _whole(node.args[1]):
            raise ExpressionError(f"`{self.text}`: nth takes a list and a whole number from 0 on")
        if keys and _number(node.keywords[0].value) is None:
            raise ExpressionError(f"`{self.text}`: `default` is a number")
        for argument in node.args:
            yield from self._names(argument)

    def _refused(self, node: ast.AST) -> ExpressionError:
        what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
        hint = "write & | ~ for and, or, not" if isinstance(node, ast.BoolOp) or "not " in what else ""
        allowed = hint or f"allowed are + - * / ** % comparisons & | ~ and {', '.join(KNOWN)}"
        return ExpressionError(f"`{self.text}`: `{what}` cannot stand in an expression: {allowed}")


def checked(text: str) -> str:
    """The text of an expression as it is, for a model of the study.

    Raises:
        ValueError: it is none.
    """
    try:
        Expression(text)
    except ExpressionError as error:
        raise ValueError(str(error)) from None
    return text


def _name(node: ast.AST) -> str | None:
    """The column that a node names: a name, names with dots, or a text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Attribute) and (stem := _name(node.value)):
        return f"{stem}.{node.attr}"
    return None


def _number(node: ast.AST) -> float | int | None:
    sign = -1 if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else 1
    node = node.operand if isinstance(node, ast.UnaryOp) else node
    is_number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return sign * node.value if is_number else None  # type: ignore[attr-defined]


def _whole(node: ast.AST) -> bool:
    found = _number(node)
    return isinstance(found, int) and found >= 0


class _Evaluation:
    """One evaluation over some entries."""

    def __init__(self, column: Callable[[str], Column], first: int):
        self.column, self.first = column, first

    def value(self, node: ast.AST) -> Value:
        name = _name(node)
        if name in Expression.constants:
            return Expression.constants[name]
        if name is not None:
            return self.column(name)
        if isinstance(node, ast.Constant):
            return node.value  # type: ignore[return-value]
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Subscript):
            return self._member(node)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.Compare):
            return self._compare(node)
        assert isinstance(node, ast.BinOp)
        nodes = (node.left, node.right)
        if type(node.op) in _LOGICAL:
            return self._apply(_LOGICAL[type(node.op)], *nodes, prepare=lambda each: self._logical(node, each))
        return self._apply(_ARITHMETIC[type(node.op)], *nodes)

    def _apply(self, function: Any, *nodes: ast.AST, prepare: Callable[[Any], Any] | None = None) -> Value:
        """A function of values, one by one."""
        values = self._alike(nodes)
        arrays = [each.values if isinstance(each, Column) else each for each in values]
        if prepare is None:
            arrays = [for_arithmetic(each) for each in arrays]
        else:
            kinds = [prepare(each) for each in arrays]
            if "b" in kinds and "i" in kinds:
                raise ExpressionError(
                    f"& and | of a truth value and a whole number ({', '.join(map(ast.unparse, nodes))}): compare the "
                    "number first, (flag != 0)"
                )
        if function is np.power:
            arrays[0] = np.asarray(arrays[0], np.float64)
        result = function(*arrays)
        columns = [each for each in values if isinstance(each, Column)]
        if not columns:
            return result.item() if isinstance(result, np.generic) else result  # type: ignore[no-any-return]
        missing = columns[0].missing
        for other in columns[1:]:
            missing = missing | other.missing
        return replace(columns[0], values=result, missing=missing)

    def _alike(self, nodes: tuple[ast.AST, ...]) -> list[Value]:
        """Values that each stand beside the others."""
        return alike([self.value(node) for node in nodes], [ast.unparse(node) for node in nodes], self.first)

    def _logical(self, node: ast.AST, values: Any) -> str:
        """b of truth values, i of whole numbers."""
        kind = np.asarray(values).dtype.kind
        if kind not in "biu":
            raise ExpressionError(
                f"`{ast.unparse(node)}`: & | ~ take truth values or whole numbers: put comparisons in parentheses"
            )
        return "b" if kind == "b" else "i"

    def _unary(self, node: ast.UnaryOp) -> Value:
        if not isinstance(node.op, ast.Invert):
            return self._apply(np.negative if isinstance(node.op, ast.USub) else np.positive, node.operand)
        found = self.value(node.operand)
        if not isinstance(found, Column) or found.values.dtype.kind != "b":
            raise ExpressionError(f"`{ast.unparse(node)}`: ~ takes truth values: compare a number first, (flag == 0)")
        return replace(found, values=~found.values)

    def _compare(self, node: ast.Compare) -> Value:
        sides = [node.left, *node.comparators]
        found: Value | None = None
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            each = self._apply(_COMPARISONS[type(operator)], left, right)
            if isinstance(found, Column) and isinstance(each, Column) and is_list(found) == is_list(each):
                each = replace(each, values=each.values & found.values, missing=each.missing | found.missing)
            elif found is not None:
                raise ExpressionError(f"`{ast.unparse(node)}`: write two comparisons with & between them")
            found = each
        assert found is not None
        return found

    def _call(self, node: ast.Call) -> Value:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name == "where":
            return self._where(node)
        if name in FUNCTIONS:
            return self._apply(FUNCTIONS[name], *node.args)
        values = self.value(node.args[0])
        if not isinstance(values, Column) or values.counts is None:
            raise ExpressionError(
                f"`{ast.unparse(node)}`: '{ast.unparse(node.args[0])}' is one number, wanted a list in each entry"
            )
        default = _number(node.keywords[0].value) if node.keywords else None
        if name in ("first", "nth"):
            return nth(values, int(_number(node.args[1]) or 0) if name == "nth" else 0, default)
        return reduced(name, values, default)

    def _where(self, node: ast.Call) -> Value:
        condition, one, other = self._alike(tuple(node.args))
        if not isinstance(condition, Column) or condition.values.dtype.kind != "b":
            raise ExpressionError(f"`{ast.unparse(node)}`: the first value of where is a comparison")
        a, b = (for_arithmetic(each.values if isinstance(each, Column) else each) for each in (one, other))
        lost = [each.missing if isinstance(each, Column) else False for each in (one, other)]
        missing = condition.missing | np.where(condition.values, *lost)
        return replace(condition, values=np.where(condition.values, a, b), missing=missing)

    def _member(self, node: ast.Subscript) -> Value:
        """One member of each list by its number, or the members for which a condition holds."""
        if _whole(node.slice):
            values, index = self.value(node.value), int(_number(node.slice) or 0)
            stem = ast.unparse(node.value).strip("'")
            if not isinstance(values, Column) or values.counts is None:
                raise ExpressionError(f"'{stem}' holds one number per entry; leave [{index}] out")
            if (short := values.counts <= index).any():
                entry = int(np.argmax(short))
                raise ExpressionError(
                    f"'{stem}' has {values.counts[entry]} values in entry {self.first + entry}, wanted one of number "
                    f"{index}; numbers start at 0, and nth({stem}, {index}) may be missing"
                )
            return nth(values, index, None)
        values, condition = self._alike((node.value, node.slice))
        is_condition = isinstance(condition, Column) and condition.values.dtype.kind == "b"
        if not isinstance(values, Column) or values.counts is None or not is_condition:
            raise ExpressionError(
                f"`{ast.unparse(node)}`: in brackets stands the number of a member of a list, from 0 on, or a condition"
            )
        assert isinstance(condition, Column)
        kept = condition.values | condition.missing
        missing = (values.missing | condition.missing)[kept]
        return replace(values, values=values.values[kept], missing=missing, counts=sums(kept, values.counts))
