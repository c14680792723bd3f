"""Where Python source defines a name, and where the same file uses it: pairs that `ast` can be sure of.

A name is resolved as Python does it: in its own scope, then in the enclosing functions (never in an
enclosing class), then in the module. Only names that their scope binds exactly once are taken, so
that no pair depends on which branch ran.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache

from lrope_interp.data.documents import Document
from lrope_interp.data.python_source import NOT_PYTHON, WHOLE_FILES, PythonSource, not_python
from lrope_interp.errors import LRopeError

CALL, METHOD, VARIABLE = KINDS = ("call", "method", "variable")
"""Kinds of pairs: a function or class and its call, a method and its call on self or cls, a variable
and where it is read."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*_DEFINITIONS, ast.Lambda, *_COMPREHENSIONS)
_AFTER_KEYWORD = re.compile(r"(?:async\s+)?(?:def|class)\s+(?=\w)")
_OWN = ("self", "cls")


@dataclass(frozen=True)
class Name:
    """A name that stands somewhere in the source.

    Attributes:
        kind: One of `KINDS`: what it defines, or how it is used.
        text: The name.
        start: Its first character.
        is_definition: Whether it is defined here, and not used.
    """

    kind: str
    text: str
    start: int
    is_definition: bool

    @property
    def end(self) -> int:
        """The character after its last one."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Use:
    """A definition, and a use of it that comes later."""

    definition: Name
    use: Name

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return self.definition.kind


@dataclass(frozen=True)
class Definitions:
    """What a document defines and uses.

    Attributes:
        uses: Pairs of which `ast` can be sure, by the place of the use.
        names: Everything defined or used in one of the ways of `KINDS`, sure or not, by its place.
    """

    uses: tuple[Use, ...]
    names: tuple[Name, ...]


def definitions_of(document: Document) -> Definitions:
    """Return the names and pairs that lie within a document.

    Args:
        document: Python source, or a piece of a file: names are resolved in the whole file.

    Raises:
        LRopeError: It is not known as code, or the file does not parse.
    """
    if document.language != "code" or document.is_despaced:
        raise LRopeError(
            f"definitions are looked for in code with its white space, and {document.name} is not known as "
            "such; give the corpus code, or files of Python"
        )
    text, first = document.whole or (document.text, 0)
    end = first + len(document.text)
    found = _read(text)
    names = tuple(
        _moved(one, -first) for one in found.names if one.start >= first and one.start + len(one.text) <= end
    )
    uses = (one for one in found.uses if one.definition.start >= first and one.use.end <= end)
    return Definitions(tuple(Use(_moved(u.definition, -first), _moved(u.use, -first)) for u in uses), names)


def _moved(name: Name, by: int) -> Name:
    return replace(name, start=name.start + by)


@dataclass
class _Scope:
    """A scope while a file is read: what it binds, how often, and where it is defined for certain."""

    parent: _Scope | None
    is_class: bool = False
    bound: Counter[str] = field(default_factory=Counter)
    defined: dict[str, Name] = field(default_factory=dict)

    def owner(self, name: str) -> _Scope | None:
        """Return the scope that a name read here belongs to; None where that is not certain."""
        scope: _Scope | None = self
        while scope is not None and not (scope.bound[name] and (scope is self or not scope.is_class)):
            scope = scope.parent
        return scope


class _Reader(PythonSource):
    """Reads one file: first all bindings, then all uses."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.names: list[Name] = []
        self.reads: list[tuple[_Scope | None, Name]] = []
        self.redirected: set[str] = set()
        self._read(self.tree, _Scope(None), None)

    def found(self) -> Definitions:
        """Return the pairs whose use follows its definition, and all names."""
        uses = [
            Use(definition, use) for scope, use in self.reads if (definition := self._defined(scope, use))
        ]
        later = [one for one in uses if one.definition.end <= one.use.start]
        names = sorted([*self.names, *(use for _, use in self.reads)], key=lambda one: one.start)
        return Definitions(tuple(sorted(later, key=lambda one: one.use.start)), tuple(names))

    def _defined(self, scope: _Scope | None, use: Name) -> Name | None:
        """Return the only definition of a used name, if it is of the right kind."""
        is_own = use.kind == METHOD  # of the class itself; any other name is looked for outwards
        owner = scope if is_own or scope is None else scope.owner(use.text)
        if owner is None or use.text in self.redirected or owner.bound[use.text] != 1:
            return None
        definition = owner.defined.get(use.text)
        return definition if definition is not None and definition.kind == use.kind else None

    def _use(self, scope: _Scope | None, kind: str, text: str, start: int) -> None:
        if self.text.startswith(text, start):  # within a formatted string `ast` may count wrongly
            self.reads.append((scope, Name(kind, text, start, is_definition=False)))

    def _definition(self, scope: _Scope, kind: str, text: str, start: int) -> None:
        if self.text.startswith(text, start):
            scope.defined[text] = Name(kind, text, start, is_definition=True)
            self.names.append(scope.defined[text])

    def _read(self, node: ast.AST, scope: _Scope, klass: _Scope | None, is_called: bool = False) -> None:
        """Bind what a node binds, note what it reads, and go on to what it holds."""
        inner, inner_klass = scope, klass
        if isinstance(node, _SCOPES):
            inner = _Scope(scope, is_class=isinstance(node, ast.ClassDef))
            inner_klass = inner if inner.is_class else klass
        if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            inner.bound.update(one.arg for one in ast.iter_child_nodes(node.args) if isinstance(one, ast.arg))
        if isinstance(node, _DEFINITIONS):
            scope.bound[node.name] += 1
            found = _AFTER_KEYWORD.match(self.text, self.place(node.lineno, node.col_offset))
            is_method = scope.is_class and not inner.is_class
            if found is not None:
                self._definition(scope, METHOD if is_method else CALL, node.name, found.end())
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            kind = CALL if is_called else VARIABLE
            self._use(scope, kind, node.id, self.place(node.lineno, node.col_offset))
        elif isinstance(node, ast.Name):
            scope.bound[node.id] += 1
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if is_called and node.value.id in _OWN:
                self._use(klass, METHOD, node.attr, self.end(node) - len(node.attr))
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if len(targets) == 1 and isinstance(name := targets[0], ast.Name):
                self._definition(scope, VARIABLE, name.id, self.place(name.lineno, name.col_offset))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            self.redirected.update(node.names)
        elif isinstance(node, ast.alias):
            scope.bound[(node.asname or node.name).split(".")[0]] += 1
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            scope.bound[node.name] += 1
        elif isinstance(node, ast.MatchMapping) and node.rest:
            scope.bound[node.rest] += 1
        for part, value in ast.iter_fields(node):
            # Decorators, bases, defaults and annotations are read outside; parameters of types not at all.
            is_inside = part == "body" or isinstance(node, _COMPREHENSIONS)
            places = (inner, inner_klass) if is_inside else (scope, klass)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and part != "type_params":
                    self._read(child, *places, is_called=isinstance(node, ast.Call) and part == "func")


@lru_cache(maxsize=WHOLE_FILES)
def _read(text: str) -> Definitions:
    """Return what a whole file defines and uses."""
    try:
        return _Reader(text).found()
    except NOT_PYTHON:
        raise not_python("definitions") from None
