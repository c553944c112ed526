"""Arithmetic over grader scores (`calculate_output`), read into a tree of known nodes and never executed as code."""

import ast
import math
import operator
from collections.abc import Callable, Mapping

MAX_CHARACTERS = 1000
_MAX_NODES = 500
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_MANY = frozenset({"min", "max"})


class FormulaFault(Exception):  # noqa: N818 - the formula's fault
    """The formula is none, or has no value for these scores."""


class Formula:
    """`+ - * / ^`, parentheses, numbers, names of graders and `min max abs floor ceil exp sqrt log`.

    Everything is a 64-bit float, so neither a number nor the work can grow without bound.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARACTERS:
            raise FormulaFault(f"the formula has more than {MAX_CHARACTERS} characters")
        try:
            self._body = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise FormulaFault(f"'{text}' is no formula of numbers, grader names and + - * / ^ ( )") from None
        nodes = list(ast.walk(self._body))
        if len(nodes) > _MAX_NODES:
            raise FormulaFault("the formula is too long")
        functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        self.names = frozenset(node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in functions)
        # With any numbers: what is no arithmetic is found now.
        _check(self._body)

    def value(self, scores: Mapping[str, float]) -> float:
        """`FormulaFault` where there is no value: a division by 0, a missing name."""
        try:
            result = _value(self._body, scores)
        except (ArithmeticError, ValueError, RecursionError) as error:
            raise FormulaFault(f"the formula has no value for these scores: {error}") from None
        if not math.isfinite(result):
            raise FormulaFault("the formula's value is not finite")
        return result


def _check(node: ast.expr) -> None:
    match node:
        case ast.Constant(value=bool() | str() | bytes() | None) | ast.Constant(value=complex()):
            raise FormulaFault(f"'{ast.unparse(node)}' is no number")
        case ast.Constant() | ast.Name():
            return
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left)
            _check(right)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            if not arguments or (len(arguments) > 1 and name not in _MANY):
                raise FormulaFault(f"'{name}' takes {'numbers' if name in _MANY else 'one number'}")
            for argument in arguments:
                _check(argument)
        case _:
            raise FormulaFault(
                f"'{ast.unparse(node)}' is not allowed: numbers, names of graders, + - * / ^, parentheses and "
                f"{', '.join(_FUNCTIONS)} are"
            )


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            if name not in scores:
                raise FormulaFault(f"there is no score of '{name}'")
            return float(scores[name])
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, scores), _value(right, scores))
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, scores)
            return -value if isinstance(op, ast.USub) else value
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            value = _value(argument, scores)
            return value if name in _MANY else float(_FUNCTIONS[name](value))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return float(_FUNCTIONS[name](*(_value(argument, scores) for argument in arguments)))
        case _:
            raise FormulaFault(f"'{ast.unparse(node)}' is not allowed")
