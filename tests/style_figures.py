"""Figures of the package's style, printed for orientation and asserted nowhere.

python tests/style_figures.py
"""

import ast
import io
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "keras_surrogate"
_EMPTY = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
# A docstring that begins with one of these is a clause without a head.
_HEADLESS = {"What", "Whether", "Of", "From", "How", "Where", "That", "With", "As", "When"}


def figures(paths=None):
    """A dictionary from a figure's name to its value, over some files; default the package's."""
    paths = sorted(PACKAGE.rglob("*.py")) if paths is None else paths
    counts = dict.fromkeys(
        ("code", "comments", "tuples", "conditionals", "docstrings", "headless"), 0
    )
    counts["longest"] = 0
    for path in paths:
        _count(path.read_text(), counts)
    thousands = counts["code"] / 1000
    return {
        "code lines": counts["code"],
        "tuple assignments per 1000 lines (aim: 4)": counts["tuples"] / thousands,
        "conditional expressions per 1000 lines (aim: 15)": counts["conditionals"] / thousands,
        "comments per 100 lines (aim: 4)": counts["comments"] / thousands / 10,
        "docstrings without a head, % (aim: 0)": 100 * counts["headless"] / counts["docstrings"],
        "longest line (aim: 100)": counts["longest"],
    }


def _count(source, counts):
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _EMPTY:
            lines.update(range(token.start[0], token.end[0] + 1))
        counts["comments"] += token.type == tokenize.COMMENT
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            counts["docstrings"] += 1
            counts["headless"] += ast.get_docstring(node).split()[0] in _HEADLESS
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
        counts["tuples"] += _assigns_tuple(node)
        counts["conditionals"] += isinstance(node, ast.IfExp)
    counts["code"] += len(lines)
    counts["longest"] = max(counts["longest"], *map(len, source.splitlines()), 0)


def _assigns_tuple(node):
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


if __name__ == "__main__":
    for name, value in figures().items():
        print(f"{name:50} {value:8.1f}")
