"""Rules for docstrings: how they begin, and that the files that they name exist.

A test cannot find good sentences. It can find some habits that make a docstring hard to understand.
"""

import ast
import re
from itertools import pairwise
from pathlib import Path

from tests.helpers.source_tree import ROOT, SOURCES, TESTS, name, text, trees

FILES = {
    str(path.relative_to(ROOT))
    for folder in ("gateway", "plugins", "tests", "deploy")
    for path in (ROOT / folder).rglob("*")
}


def words(text):
    return set(text.split())


FRAGMENTS = words(
    "What Of How Where Why For Those That Which When Who Whose Whom By In With From As It Its They Them This These To "
    "At On If So Since Until Because Than Then While And But Or Not Also Beside Besides Without Within Behind Above "
    "Below After Before Told Kept Asked Made Shown Held Taken Given Whatever Whoever Whenever Wherever"
)
"""Words with which no docstring may begin. Each refers to a noun or a clause that the reader has not read yet."""
NO_VERBS = FRAGMENTS | words(
    "A An The All Every Each Some Any None No One Two Up Whether Same Another Both Many Most More Less Few Only "
    "Nothing Somebody Nobody Everything Something Anything True False Our My Own Other"
)
"""Words that are not verbs. No docstring of a function may begin with one of them."""


def first_word(docstring):
    return docstring.split()[0].strip("`\"'(,.:;)")


def docstrings(tree):
    """Yield (line, kind, docstring) for each docstring of a module, including the string after an assignment."""
    if head := ast.get_docstring(tree):
        yield 1, "head", head
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
            docstring := ast.get_docstring(node)
        ):
            decorators = {ast.unparse(each) for each in node.decorator_list}
            is_value = isinstance(node, ast.ClassDef) or decorators & {"property", "cached_property"}
            yield node.lineno, "value" if is_value else "function", docstring
        body = getattr(node, "body", None)
        for before, here in pairwise(body) if isinstance(body, list) else ():
            match here:
                case ast.Expr(ast.Constant(str(docstring))) if isinstance(before, ast.Assign | ast.AnnAssign):
                    yield here.lineno, "value", docstring


def test_a_docstring_begins_with_a_word_that_stands_alone():
    """Check that each docstring of a function begins with an imperative verb, and that no docstring begins with a word
    in `FRAGMENTS`.
    """
    wrong = []
    for path, tree in trees(SOURCES).items():
        for line, kind, docstring in docstrings(tree):
            word = first_word(docstring)
            third_person = word.endswith("s") and not word.endswith("ss")
            no_verb = word in NO_VERBS or third_person or not word[:1].isalpha()
            if word in FRAGMENTS or (kind == "function" and no_verb):
                wrong.append(f"{name(path)}:{line}: {docstring.splitlines()[0]}")
    assert wrong == []


def test_a_docstring_of_the_tests_begins_with_no_fragment():
    """Check that no docstring of the tests begins with a word in `FRAGMENTS`."""
    assert [
        f"{name(path)}:{line}: {docstring.splitlines()[0]}"
        for path, tree in trees(TESTS).items()
        for line, _, docstring in docstrings(tree)
        if first_word(docstring) in FRAGMENTS
    ] == []


def test_a_file_that_the_prose_names_is_there():
    """Check that each file that a docstring names in backticks exists. A path is relative to the docstring's file, to a
    package, or to the repository's root.
    """
    wrong = []
    for path in SOURCES:
        roots = (path.relative_to(ROOT).parent, Path(), Path("gateway"), Path("plugins/gateway_plugins"))
        named = set(re.findall(r"`([\w/]+\.(?:py|json|md|html|css))`", text(path)))
        wrong += [
            f"{name(path)}: {each}" for each in sorted(named) if not any(str(root / each) in FILES for root in roots)
        ]
    assert wrong == []
