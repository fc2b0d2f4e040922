"""Which cells may still be Python floats in the careful run, where the others are NumPy's.

A division of two of those would raise there too, so one of the two is made NumPy's first.
"""

from __future__ import annotations

from crossbackend.lowering.nodes import LITERAL, NAME, Node

# By the word of the operation: plain where any argument may be, and plain where all arguments are.
PLAIN_ANY = ("chosen", "maximum", "minimum", "result", "row", "logistic")
PLAIN_ALL = ("add", "sub", "mul", "div", "neg", "abs")


def is_plain(node: Node) -> bool:
    """Tell whether a cell may be a Python float even in the careful run: it may come from literals alone."""
    if node.literal is not None or node.op in (NAME, LITERAL) or node.op.word in PLAIN_ANY:
        return node.literal is not None or not node.args or any(is_plain(arg) for arg in node.args)
    return node.op.word in PLAIN_ALL and all(is_plain(arg) for arg in node.args)
