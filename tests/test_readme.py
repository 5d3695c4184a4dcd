"""Reads README.md as a newcomer does: runs what it says and compares what that prints with what it shows."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETUP = (
    "pip install -c constraints.txt . && convexattack verify",
    'pip install -c constraints.txt -e ".[test]" && pytest',
)
PROGRAM = "from convexattack.cli import main\nsys.exit(main())"

BLOCK = re.compile(
    r"(?:^<!-- *not run\b:?(?P<reason>[^\n]*?)--> *\n\s*)?^```(?P<language>\w*) *\n(?P<source>.*?)^``` *$",
    re.DOTALL | re.MULTILINE,
)
OTHER_NAMES = {"bash", "console", "shell", "zsh", "py", "python3", "pycon"}


@dataclass(frozen=True)
class Block:
    """A fenced block that is run: its language, the line of its first statement, its text, the output shown below."""

    language: str
    line: int
    source: str
    shown: str | None


def blocks(readme: str) -> Iterator[Block]:
    """The python and sh blocks that are to be run. ValueError for one that could never be run and does not say why."""
    found = list(BLOCK.finditer(readme))
    if "```" in BLOCK.sub("", readme):
        raise ValueError("README.md has a ``` block that does not end")
    for block, below in zip(found, [*found[1:], None], strict=True):
        language, reason = block["language"], block["reason"]
        line = readme.count("\n", 0, block.start("source")) + 1
        if language in OTHER_NAMES:
            raise ValueError(f"README.md:{line}: say ```sh or ```python instead of ```{language}, so that it is run")
        if reason is not None and (language not in {"python", "sh"} or not reason.strip()):
            raise ValueError(f"README.md:{line}: 'not run' stands above a python or sh block and gives its reason")
        if language in {"python", "sh"} and reason is None:
            follows = (
                below is not None and below["language"] == "text" and not readme[block.end() : below.start()].strip()
            )
            yield Block(language, line, block["source"], below["source"] if below is not None and follows else None)


def commands(block: Block) -> list[str]:
    """The commands of a sh block that are run here: of a set-up line, what `convexattack` does once it is installed."""
    lines = block.source.replace("\\\n", " ").splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    strange = [line for line in lines if line not in SETUP and not line.startswith("convexattack ")]
    if strange:
        raise ValueError(
            f"README.md:{block.line}: cannot run {strange[0]!r}; give the block its own <!-- not run: reason -->"
        )
    if block.shown is None:
        lines = [line for line in lines if line not in SETUP]
    return [line.rpartition(" && ")[2] if line in SETUP else line for line in lines]


def differences(shown: str, printed: str) -> str:
    """Empty if what is printed is what is shown, up to trailing space; `...` is anything in a line, alone any lines."""
    wanted, got = ([line.rstrip() for line in text.strip("\n").splitlines()] for text in (shown, printed))
    pattern = ""
    for line in wanted:
        alone = line.strip() in {"...", "…"}
        pattern += r"(?:[^\n]*\n)*?" if alone else r"[^\n]*?".join(map(re.escape, re.split(r"\.{3}|…", line))) + r"\n"
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in got)):
        return ""
    return "\n".join(difflib.unified_diff(wanted, got, "README.md", "printed", lineterm=""))


def run_python(block: Block, namespace: dict[str, Any]) -> str:
    """What the block prints; a traceback shows the README's own lines."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile("\n" * (block.line - 1) + block.source, ROOT / "README.md", "exec"), namespace)
    return printed.getvalue()


def run_shell(lines: list[str], environment: dict[str, str]) -> str:
    """What the lines print to standard output, one after the other in this folder. AssertionError where one fails."""
    printed = ""
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"`{line}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        printed += done.stdout
    return printed


def read_through(readme: str, folder: Path, program: str = PROGRAM) -> list[str]:
    """Run all blocks in the current folder, and say where the output is another than the README shows."""
    command = folder / "bin" / "convexattack"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nimport sys\n{program}\n")
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "TTY_COMPATIBLE"}}
    environment |= {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
    namespace: dict[str, Any] = {"__name__": "__readme__"}
    wrong = []
    for block in blocks(readme):
        printed = (
            run_python(block, namespace) if block.language == "python" else run_shell(commands(block), environment)
        )
        if block.shown is not None and (difference := differences(block.shown, printed)):
            wrong.append(f"README.md:{block.line} shows another output than this block prints:\n{difference}")
    return wrong


def setup_lines(readme: str) -> tuple[str, ...]:
    shell = [block.source.splitlines() for block in blocks(readme) if block.language == "sh"]
    return tuple(line for lines in shell for line in lines if line.startswith("pip "))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def test_the_readme_prints_what_it_shows(folder: Path) -> None:
    assert read_through((ROOT / "README.md").read_text(), folder) == []


def test_the_readme_has_the_two_commands_that_ci_extracts() -> None:
    assert setup_lines((ROOT / "README.md").read_text()) == SETUP
    assert "\n".join(SETUP) in (ROOT / ".ci" / "run").read_text()


def fenced(*parts: tuple[str, str]) -> str:
    return "\n".join(f"```{language}\n{source}\n```" for language, source in parts) + "\n"


def test_blocks_know_their_line_and_the_output_directly_below() -> None:
    readme = (
        "# Title\n\n"
        + fenced(("python", "print(1)"), ("text", "1"))
        + "\nAnd\n"
        + fenced(("sh", "convexattack x"))
        + "so\n"
    )
    readme += fenced(("text", "no output of the above"), ("", "plain"), ("mermaid", "a --> b"))
    assert list(blocks(readme)) == [Block("python", 4, "print(1)\n", "1\n"), Block("sh", 12, "convexattack x\n", None)]


def test_a_block_is_left_out_for_a_reason_only() -> None:
    block = fenced(("python", "1 / 0"), ("text", "never"))
    assert list(blocks(f"<!-- not run: it takes an hour -->\n{block}")) == []
    assert len(list(blocks(f"<!-- a remark -->\n{block}"))) == 1
    for marker in ("<!-- not run: -->", "<!-- not run -->", "<!--not run:-->"):
        with pytest.raises(ValueError, match="gives its reason"):
            list(blocks(f"{marker}\n{block}"))
    with pytest.raises(ValueError, match="above a python or sh block"):
        list(blocks("<!-- not run: it varies -->\n" + fenced(("text", "1"))))


def test_a_block_that_would_be_passed_over_is_refused() -> None:
    with pytest.raises(ValueError, match="say ```sh or ```python"):
        list(blocks(fenced(("bash", "convexattack verify"))))
    with pytest.raises(ValueError, match="does not end"):
        list(blocks("```python\nprint(1)\n"))
    with pytest.raises(ValueError, match=r"cannot run 'python -m verification'"):
        commands(Block("sh", 1, "convexattack verify\npython -m verification\n", None))


def test_commands_join_lines_and_leave_the_set_up_out() -> None:
    source = f"# set up\n{SETUP[0]}\n{SETUP[1]}\nconvexattack solve \\\n  a.npz\n"
    assert commands(Block("sh", 1, source, None)) == ["convexattack solve    a.npz"]


def test_a_set_up_line_with_its_output_runs_what_it_installed() -> None:
    assert commands(Block("sh", 1, SETUP[0] + "\n", "verdict\n")) == ["convexattack verify"]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\nb\n", "a  \nb\n\n"),
        ("took ... s, … times\n", "took 0.31 s, 2000 times\n"),
        ("a\n...\nz\n", "a\nb\nc\nz\n"),
        ("a\n…\nz\n", "a\nz\n"),
        ("  1.5 (x)\n", "  1.5 (x)\n"),
    ],
)
def test_the_same_output_passes(shown: str, printed: str) -> None:
    assert differences(shown, printed) == ""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\n", "a\nb\n"),
        ("a\nb\n", "a\n"),
        ("a\n", ""),
        ("  a\n", "a\n"),
        ("a  b\n", "a b\n"),
        ("1.5\n", "1x5\n"),
        ("a ... b\n", "a\nb\n"),
        ("a\n...\nz\n", "a\nb\n"),
    ],
)
def test_another_output_is_shown_as_a_difference(shown: str, printed: str) -> None:
    assert "printed" in differences(shown, printed)


def test_blocks_share_one_namespace_and_one_folder(folder: Path) -> None:
    program = "print(*sys.argv[1:], __import__('pathlib').Path('here').read_text())"
    readme = fenced(
        ("python", "from pathlib import Path\nx = 2\nn = Path('here').write_text('file')"),
        ("text", ""),
        ("python", "print(x + 1)"),
        ("text", "3"),
        ("sh", "convexattack a 'b c'\nconvexattack d | tr d e"),
        ("text", "a b c file\ne file"),
        ("python", "print(x)"),
        ("text", "3"),
    )
    (wrong,) = read_through(readme, folder, program)
    assert wrong.startswith("README.md:24 ")
    assert "-3\n+2" in wrong


def test_a_failing_command_fails_the_readme(folder: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)`convexattack a` ended with 3:.*why"):
        read_through(fenced(("sh", "convexattack a")), folder, "print('why', file=sys.stderr)\nsys.exit(3)")


def test_a_failing_block_fails_with_its_line(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError) as error:
        read_through("\n" + fenced(("python", "1 / 0")), folder)
    assert error.traceback[-1].lineno + 1 == 3
    assert str(error.traceback[-1].path) == str(ROOT / "README.md")
