"""The lessons: each runs as it is, its page needs no network, its first step is refuted and its solution is proved."""

from __future__ import annotations

import importlib.util
import re
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import marimo
import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from verification import lessons
from verification.__main__ import main

each = pytest.mark.parametrize("path", lessons.LESSONS, ids=lambda path: path.stem)


def solution(path: Path) -> dict[str, Any]:
    """What the lesson's own solution, which stands in it as text, defines."""
    shown = re.search(
        r"<summary>A solution</summary>.*?<pre><code>(.*?)</code></pre>", path.read_text(encoding="utf-8"), re.DOTALL
    )
    assert shown
    names: dict[str, Any] = {"torch": torch}
    exec(re.sub(r"^    ", "", unescape(shown[1]), flags=re.MULTILINE), names)
    return names


def app(path: Path) -> marimo.App:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.app
    assert isinstance(found, marimo.App)
    return found


def test_there_are_six() -> None:
    assert [path.stem[:8] for path in lessons.LESSONS] == [f"lesson_{k}" for k in range(1, 7)]
    assert [lessons.title(path)[:8] for path in lessons.LESSONS] == [f"Lesson {k}" for k in range(1, 7)]


@each
def test_the_page_of_a_lesson_needs_no_network(path: Path) -> None:
    notebook = lessons.ran(path)
    nbformat.validate(nbformat.from_dict(notebook))  # type: ignore[no-untyped-call]
    page = lessons.html(notebook, path)
    tree = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    links = [
        value for element in tree.iter() for name, value in element.items() if name in {"src", "href", "srcset", "data"}
    ]
    pages = {other.name.replace(".py", ".html") for other in lessons.LESSONS} | {"index.html"}
    assert [link[:80] for link in links if not link.startswith("data:image/png;base64,") and link not in pages] == []
    assert not re.search(r"<(script|link|iframe)\b|@import|url\(", page)

    text = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    formulas = re.findall(r"\$\$.*?\$\$|\$[^$]+\$", text, re.DOTALL)
    assert len(formulas) > 5
    made = list(tree.iter("{http://www.w3.org/1998/Math/MathML}math"))
    assert len(made) == len(formulas)
    read = [piece for element in tree.iter() for piece in (element.text, element.tail) if piece]
    assert [piece for piece in read if "arithmatex" in piece or "<marimo" in piece] == []
    assert [word for element in made for word in element.itertext() if "\\" in word] == []
    assert all(element.get("alt") for element in tree.iter("img"))
    assert len(list(tree.iter("img"))) > 1

    printed = [
        output for cell in notebook["cells"] for output in cell.get("outputs", []) if output["output_type"] == "stream"
    ]
    assert {output["name"] for output in printed} == {"stdout"}
    assert "".join(printed[-1]["text"]).startswith("Not yet. ")


@each
def test_the_solution_of_an_exercise_is_proved(path: Path) -> None:
    _, names = app(path).run(defs={"step": solution(path)["step"]})
    plt.close("all")
    assert names["verdict"].startswith("Proved")


def test_a_lesson_that_fails_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "lesson_0.py"
    wrong.write_text(
        "import marimo\napp = marimo.App()\n\n\n@app.cell\ndef _():\n    # Lesson 0\n    1 / 0\n    return\n"
    )
    monkeypatch.setattr(lessons, "LESSONS", [wrong])
    assert main(["lessons", "--out", str(tmp_path / "out")]) == 1
    assert "lesson_0.py failed:" in (said := capsys.readouterr().err)
    assert "ZeroDivisionError" in said
    assert list((tmp_path / "out").iterdir()) == []


def test_one_command_writes_pages_index_and_jupyter_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = nbformat.v4.new_markdown_cell("# Title\n\n$x^2 < 1$")  # type: ignore[no-untyped-call]
    monkeypatch.setattr(lessons, "ran", lambda path: nbformat.v4.new_notebook(cells=[cell]))  # type: ignore[no-untyped-call]
    assert main(["lessons", "--out", str(tmp_path / "new" / "folder"), "--jupyter"]) == 0
    stems = [path.stem for path in lessons.LESSONS]
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {"index.html"} | {f"{stem}{kind}" for stem in stems for kind in (".html", ".ipynb")}
    tree = ElementTree.fromstring(
        (tmp_path / "new" / "folder" / "index.html").read_text().removeprefix("<!DOCTYPE html>\n")
    )
    assert {element.get("href") for element in tree.iter("a")} == names - {"index.html"}
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in (tmp_path / "new" / "folder" / f"{stems[0]}.html").read_text()
    for stem in stems:
        nbformat.validate(nbformat.read(tmp_path / "new" / "folder" / f"{stem}.ipynb", as_version=4))  # type: ignore[no-untyped-call]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["lessons", "--out", str(tmp_path / "file")])
    assert stop.value.code == 2
    assert "give a folder that can, or a new name" in capsys.readouterr().err
