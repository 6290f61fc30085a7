"""Runs the examples in docstrings, which are interactive Python sessions. Their statements may use `await`."""

import ast
import doctest
import inspect
import io
from contextlib import redirect_stdout
from types import FunctionType

PARSER = doctest.DocTestParser()


async def differences(docstring, names):
    """Return the statements whose output is not the documented one, each with its output."""
    wrong = []
    for example in PARSER.get_examples(docstring):
        shown = await output(example.source, names)
        if shown != (example.want if example.exc_msg is None else example.exc_msg):
            wrong.append(f">>> {example.source}{shown}")
    return wrong


async def output(source, names):
    """Run one statement as an interactive Python session does. Return what the session prints: the output of the
    statement, or the last line of its traceback.
    """
    code = compile(source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    shown = io.StringIO()
    with redirect_stdout(shown):
        try:
            result = FunctionType(code, names)()
            if inspect.iscoroutine(result):
                await result
        except Exception as error:  # noqa: BLE001 (the traceback is the output)
            return f"{type(error).__name__}: {error}\n"
    return shown.getvalue()
