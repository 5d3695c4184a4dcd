"""Six lessons, from the first-order model to one's own constraint: marimo notebooks that are plain Python.

    marimo edit verification/lessons/lesson_3_dual_norms.py        live, with sliders
    python verification/lessons/lesson_3_dual_norms.py             as a script
    python -m verification lessons --out lessons --jupyter         static pages, and Jupyter copies

A page is one file that fetches nothing: formulas are MathML, pictures stand in it. It comes from the notebook as marimo
ran it (`marimo export ipynb --include-outputs`), so what a page shows is what the code beside it gave.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from verification import page

__all__ = ["LESSONS", "html", "main", "ran", "title"]

FOLDER = Path(__file__).resolve().parent
LESSONS = sorted(FOLDER.glob("lesson_*.py"))
INTERRUPTED = 130

Notebook = dict[str, Any]
MATHS = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">(?:\\\(|\\\[)(?P<latex>.*?)(?:\\\)|\\\])</(?P=tag)>', re.DOTALL
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 if every lesson was written, 1 if a cell failed, 2 for wrong arguments, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m verification lessons",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the lessons and write each as one HTML page that needs no network, and an index of them.",
        epilog="lessons:\n" + "\n".join(f"  {path.stem:30}  {title(path)}" for path in LESSONS) + "\n\n"
        "One of them live, with sliders and with exercises to edit:\n"
        "  marimo edit verification/lessons/lesson_3_dual_norms.py",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder for the pages; it is made if it is not there"
    )
    parser.add_argument(
        "--jupyter", action="store_true", help="write a Jupyter copy of each, with its outputs, as well"
    )
    given = parser.parse_args(arguments)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=given.out):
            pass
    except OSError as error:
        parser.error(
            f"--out {given.out} cannot be written to ({error.strerror}): give a folder that can, or a new name"
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=len(LESSONS))
            for path in LESSONS:
                progress.update(task, description=path.stem)
                notebook = ran(path)
                page.write_whole(given.out / f"{path.stem}.html", html(notebook, path))
                if given.jupyter:
                    page.write_whole(
                        given.out / f"{path.stem}.ipynb", json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
                    )
                progress.advance(task)
    except KeyboardInterrupt:
        print("interrupted: the pages written so far are complete, the others were not written", file=sys.stderr)
        return INTERRUPTED
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    page.write_whole(given.out / "index.html", _index(given.jupyter))
    print(f"{len(LESSONS)} lessons: open {given.out / 'index.html'}")
    return 0


def title(path: Path) -> str:
    """Of a lesson: its first heading."""
    found = re.search(r"^ *# (Lesson .*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise ValueError(f"{path} has no heading '# Lesson …'")
    return found[1]


def ran(path: Path) -> Notebook:
    """The lesson as a Jupyter notebook with the outputs of a fresh run; for what only works live, how to open it.

    Raises:
        RuntimeError: a cell failed; the message has its traceback.
    """
    root = FOLDER.parent.parent
    search = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as scratch:
        copy, written = Path(scratch) / path.name, Path(scratch) / "lesson.ipynb"
        copy.write_bytes(path.read_bytes())  # marimo leaves a folder beside what it runs
        command = [sys.executable, "-m", "marimo", "export", "ipynb", str(copy), "-o", str(written)]
        command += ["--include-outputs", "--sort", "top-down"]
        environment = os.environ | {"PYTHONPATH": search, "MPLBACKEND": "Agg"}
        done = subprocess.run(
            command, env=environment, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if not written.exists():
            raise RuntimeError(f"marimo could not export {path.name}: {done.stderr.strip()}")
        notebook: Notebook = json.loads(written.read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    failed = [
        "".join(f"{line}\n" for line in output["traceback"]) for output in outputs if output["output_type"] == "error"
    ]
    if failed or done.returncode:
        raise RuntimeError(f"{path.name} failed:\n" + ("".join(failed) or done.stderr))
    live = f"*Here the live notebook has sliders:* `marimo edit verification/lessons/{path.name}`"
    for output in outputs:
        if any("marimo-" in "".join(text) for kind, text in output.get("data", {}).items() if kind.startswith("text/")):
            output["data"] = {"text/markdown": [live]}
    notebook["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def html(notebook: Notebook, path: Path) -> str:
    """One lesson as a page."""
    parts = [_way(path), *(part for cell in notebook["cells"] for part in _cell(cell)), _way(path)]
    return page.page(title(path), "\n".join(parts))


def _cell(cell: Notebook) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield _prose(source)
        return
    comment = re.match(r"# (.*)\n", source)
    if source.startswith("import "):
        yield _folded("imports", source)
    elif not cell["metadata"].get("marimo", {}).get("config", {}).get("hide_code"):
        yield _code(source)
    elif "mo.ui." not in source:
        yield _folded("picture" if comment else ", ".join(re.findall(r"^def (\w+)", source, re.MULTILINE)), source)
    for output in cell["outputs"]:
        yield _output(output, comment[1] if comment else "")


def _output(output: Notebook, caption: str) -> str:
    if output["output_type"] == "stream":
        return f'<pre class="printed">{escape("".join(output["text"]))}</pre>'
    data = {kind: "".join(text) if isinstance(text, list) else text for kind, text in output["data"].items()}
    if "image/png" in data:
        encoded, words = data["image/png"].replace("\n", ""), escape(caption)
        width = int.from_bytes(base64.b64decode(encoded)[16:20]) // 2  # a PNG's width, at two pixels for one of marimo
        picture = f'<img alt="{words}" width="{width}" src="data:image/png;base64,{encoded}" />'
        return f"<figure>{picture}<figcaption>{words}</figcaption></figure>"
    if "text/markdown" in data:
        return _prose(data["text/markdown"])
    return f'<pre class="printed">{escape(data["text/plain"])}</pre>'


def _folded(what: str, source: str) -> str:
    return f"<details><summary>Code: {escape(what)}</summary>{_code(source)}</details>"


def _code(source: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return str(highlight(source, PythonLexer(), HtmlFormatter(noclasses=True, nobackground=True, style="friendly")))


def _prose(text: str) -> str:
    """Markdown as HTML, formulas as MathML."""
    import markdown
    from pymdownx import arithmatex

    made = markdown.markdown(text, extensions=["sane_lists", arithmatex.makeExtension(generic=True)])
    return MATHS.sub(lambda found: page.formula(_tagged(unescape(found["latex"])), inline=found["tag"] == "span"), made)


def _tagged(latex: str) -> str:
    r"""MathML has no \tag: the number of an equation follows it."""
    return re.sub(r"\\tag\{(.*?)\}", r"\\qquad(\\text{\1})", latex)


def _way(path: Path) -> str:
    """To the lessons before and after."""
    place = LESSONS.index(path)
    links = [(LESSONS[place - 1], "←")] if place else []
    links += [(LESSONS[place + 1], "→")] if place + 1 < len(LESSONS) else []
    words = (f'<a href="{other.stem}.html">{arrow} {escape(title(other))}</a>' for other, arrow in links)
    return '<p class="quiet">' + " · ".join(['<a href="index.html">All lessons</a>', *words]) + "</p>"


def _index(jupyter: bool) -> str:
    rows = []
    for path in LESSONS:
        copy = f' (<a href="{path.stem}.ipynb">Jupyter</a>)' if jupyter else ""
        rows.append(f'<li><a href="{path.stem}.html">{escape(title(path))}</a>{copy}</li>')
    return page.page(
        "Adversarial perturbations by convex programming: six lessons",
        "<h1>Adversarial perturbations by convex programming</h1>\n"
        "<p>Six lessons through <em>On Generation of Adversarial Examples using Convex Programming</em> "
        "(Balda, Behboodi and Mathar, 2018). Each derives one step, shows it on a trained network and real images, "
        "and ends with an exercise that checks itself.</p>\n"
        "<ul>\n" + "\n".join(rows) + "\n</ul>\n"
        "<p>These pages are fixed. Live, with sliders and with exercises to edit, "
        "from a checkout of the repository:</p>\n"
        '<pre>pip install -c constraints.txt -e ".[lessons]"\nmarimo edit verification/lessons</pre>',
    )
