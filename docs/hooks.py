"""Pages that mkdocs makes when it builds the site: the gallery, the API reference, the changelog.

The notebooks of examples/ are copied.

mkdocs calls `on_files`. Nothing that it makes is kept in the repository.
"""

from __future__ import annotations

import re
import types
from html import unescape
from pathlib import Path

import matplotlib

matplotlib.use("svg")

# mkdocs makes the folder of this file importable while it loads the file.
import gallery
from latex2mathml import converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import keras_surrogate as ks

ROOT = Path(__file__).parents[1]
# Pictures of the repository that pages show, by their place in the site.
PICTURES = {
    "pictures/demo.png": "examples/demo.png",
    "pictures/direction.png": "examples/evidence/results/direction.png",
    "pictures/law.png": "examples/evidence/results/law.png",
    "pictures/revival.png": "examples/evidence/results/revival.png",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the pictures of the repository."""
    for place, source in PICTURES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    pages = {
        "gallery.md": gallery.page(),
        "about/changelog.md": (ROOT / "CHANGELOG.md").read_text(),
    }
    for notebook in sorted((ROOT / "examples" / "notebooks").glob("*.ipynb")):
        place = f"notebooks/{notebook.name}"
        files.append(File.generated(config, place, abs_src_path=str(notebook)))
    for place, text in {**pages, **api_pages()}.items():
        files.append(File.generated(config, place, content=text))
    for name in ks.presets.names():
        content = gallery.picture(ks.get(name))
        files.append(File.generated(config, f"pictures/preset-{name}.svg", content=content))
    for name in ks.functions.names():
        content = gallery.picture(ks.Surrogate(name))
        files.append(File.generated(config, f"pictures/function-{name}.svg", content=content))
    return files


def on_page_content(html: str, **_: object) -> str:
    """Replace the LaTeX of a page by MathML, which browsers draw without a script."""
    html = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', _inline, html, flags=re.DOTALL)
    return re.sub(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', _display, html, flags=re.DOTALL)


def _inline(found: re.Match[str]) -> str:
    return converter.convert(unescape(found[1].strip()))


def _display(found: re.Match[str]) -> str:
    return f"<p>{converter.convert(unescape(found[1].strip()), display='block')}</p>"


def api_pages() -> dict[str, str]:
    """A page for each public module, with all its public names, and a page that lists them."""
    modules = public_modules()
    pages = {}
    contents = ["# API reference", "", "Every public name, by the module that exports it.", ""]
    for module in modules:
        names = public_names(module)
        title = module.__name__
        summary = gallery.first_paragraph(module)
        contents += [f"* [`{title}`]({title}.md): {summary}"]
        lines = [f"# `{title}`", "", summary, ""]
        for name in names:
            lines += [f"::: {title}.{name}", ""]
        pages[f"api/{title}.md"] = "\n".join(lines)
    pages["api/index.md"] = "\n".join(contents) + "\n"
    return pages


def public_modules() -> list[types.ModuleType]:
    """The package, the modules that it exports, and those that these export."""
    found = [ks]
    for module in found:
        inner = [getattr(module, name) for name in exported(module)]
        found += [one for one in inner if _is_ours(one) and one not in found]
    return found


def _is_ours(thing: object) -> bool:
    return isinstance(thing, types.ModuleType) and thing.__name__.startswith("keras_surrogate")


def exported(module: types.ModuleType) -> list[str]:
    """The names that a module exports: `__all__`, or what it defines without an underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    names = [name for name in vars(module) if not name.startswith("_")]
    own = [
        name for name in names if getattr(vars(module)[name], "__module__", None) == module.__name__
    ]
    return sorted(own)


def public_names(module: types.ModuleType) -> list[str]:
    """The exported names of a module that are no modules."""
    return [
        name for name in exported(module) if not isinstance(getattr(module, name), types.ModuleType)
    ]


def every_public_name() -> list[str]:
    """The full names of everything that must have a place in the API reference."""
    return [
        f"{module.__name__}.{name}" for module in public_modules() for name in public_names(module)
    ]
