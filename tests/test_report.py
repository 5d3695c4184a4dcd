"""The report is one page: whole or not written, nothing fetched, everything that was run in it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from verification import CLAIMS, Finding, Record, run
from verification.__main__ import main
from verification.page import figure, formula, inline, page, prose, table, write_whole
from verification.pictures import PICTURES
from verification.report import report
from verification.statements import STATEMENTS

MATHML = "{http://www.w3.org/1998/Math/MathML}math"
FETCHED = re.compile(
    r"\b(?:src|srcset|action|data|poster)=|<(?:script|iframe|object|embed|link|base|img)\b"
    r'|@import|url\((?!#)|\bhref="(?!#)'
)


def parsed(html: str) -> ET.Element:
    """The page as XML: every element is closed, every character that needs it escaped."""
    doctype, _, rest = html.partition("\n")
    assert doctype == "<!DOCTYPE html>"
    return ET.fromstring(rest)


def words(html: str) -> str:
    return " ".join("".join(parsed(html).itertext()).split())


@pytest.fixture(scope="module")
def whole() -> str:
    """All claims, with one made-up record each: what the page shows does not depend on what an oracle found."""
    records = [
        Record(
            c.name,
            c.equation,
            c.statement,
            f"judge of {c.name}",
            1234,
            2.5e-9,
            1e-6,
            "p = 2",
            7,
            f"note on {c.name}",
            0.5,
        )
        for c in CLAIMS.values()
    ]
    return report(list(CLAIMS.values()), records, 3, "small", ["--report", "a b.html"])


def test_everything_is_in_it(whole: str) -> None:
    said = words(whole)
    assert f"{len(CLAIMS)} of {len(CLAIMS)} claims hold." in said
    ids = {element.get("id") for element in parsed(whole).iter() if element.get("id")}
    plain = re.sub(r"</?su[bp]>|</?code>", "", whole)
    for claim in CLAIMS.values():
        assert claim.name in ids
        assert f"judge of {claim.name}" in plain
        assert f"note on {claim.name}" in plain
        assert claim.source.name in said
    assert "k(x) ≠ k(x + η) is the same as" in said
    assert "For p = ∞ the solution of (GNII)" in said
    assert "1,234" in said
    assert "2.5e-09" in said
    assert "python -m verification --report 'a b.html'" in said
    assert re.search(r"seed, instances\s*3, small", said)
    assert re.search(r"torch \d.*cvxpy \d.*mpmath \d", said)


def test_nothing_is_fetched(whole: str) -> None:
    assert FETCHED.findall(whole) == []
    assert {match for match in re.findall(r"https?://[^\s\"<]+", whole)} <= {
        "http://www.w3.org/1998/Math/MathML", "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip


def test_links_and_ids_meet(whole: str) -> None:
    root = parsed(whole)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    to = {value[1:] for element in root.iter() for name, value in element.attrib.items() if name.endswith("href")}
    assert to <= set(ids)
    assert set(CLAIMS) <= to


def test_formulas_are_mathml_and_pictures_svg(whole: str) -> None:
    root = parsed(whole)
    assert len(list(root.iter(MATHML))) == sum(len(claim.formulas) for claim in CLAIMS.values())
    assert len(list(root.iter("{http://www.w3.org/2000/svg}svg"))) == 1 + len(PICTURES)
    assert set(PICTURES) <= set(CLAIMS)
    assert "\\" not in "".join(text for element in root.iter(MATHML) for text in element.itertext())


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_has_its_formula(name: str) -> None:
    assert CLAIMS[name].formulas
    for latex in CLAIMS[name].formulas:
        assert ET.fromstring(formula(latex)).find(MATHML) is not None


def test_every_claim_is_of_a_statement_of_the_paper() -> None:
    named = {name for statement in STATEMENTS for name in statement.claims}
    assert named == set(CLAIMS)
    assert all(bool(statement.claims) != bool(statement.note) for statement in STATEMENTS)


def test_a_slip_says_what_the_paper_says() -> None:
    slips = {name for name, claim in CLAIMS.items() if claim.slip}
    assert {"proposition_1_equality", "probabilities", "pieces", "operator_norm_sdp"} <= slips
    for name in slips:
        assert CLAIMS[name].slip.endswith(".")
        assert "except" in (import_module(f"verification.{name}").__doc__ or ""), name


def test_what_fails_is_said_and_not_hidden() -> None:
    claim = CLAIMS["sign"]
    bad = Record("sign", claim.equation, claim.statement, "a judge", 3, float("inf"), 0.0, "d = 2", 0, "", 0.1)
    said = words(report([claim, CLAIMS["fooled"]], [bad], 0, 1, []))
    assert "0 of 2 claims hold." in said
    assert "Not so: sign, fooled." in said
    assert "inf" in said


def test_any_text_is_escaped() -> None:
    evil = "<script>alert('x')</script> & \"q\" ]]> ‖η‖_<b>"
    claim = replace(CLAIMS["sign"], statement=evil, equation=evil, slip=evil)
    record = Record("sign", evil, evil, evil, 1, 1e-9, 1e-6, evil, 0, evil, 0.0)
    html = report([claim], [record], 0, 1, [evil])
    assert "<script" not in html
    assert words(html).count("<script>alert('x')</script>") >= 5


def test_scripts_and_code() -> None:
    assert inline("‖g‖_q^{q−1}, min_{l ≠ k} f_l") == (
        "‖g‖<sub>q</sub><sup>q−1</sup>, min<sub>l ≠ k</sub> f<sub>l</sub>"
    )  # fmt: skip
    assert inline("σ_{C_j}(v_j)") == "σ<sub>C<sub>j</sub></sub>(v<sub>j</sub>)"
    for untouched in ("min_norm.py", "proposition_1.py", "max_cut.py", "float_64"):
        assert inline(untouched) == untouched
    assert inline("`a_b < 1`, a < b") == "<code>a_b &lt; 1</code>, a &lt; b"


def test_prose_keeps_formulas_on_their_lines() -> None:
    last = "No heading here, just a long sentence that goes on and on and on."
    html = prose(f"Program (Section II). Find η\nwith <\n\n    L < 0\n      and more\n\n{last}")
    assert html.splitlines()[0] == "<p><strong>Program (Section II). </strong>Find η with &lt;</p>"
    assert '<pre class="maths">L &lt; 0\n  and more</pre>' in html
    assert html.endswith(f"<p>{last}</p>")


def test_a_page_reads_on_a_phone_and_prints() -> None:
    html = page(
        "a < b", table(("one", "two"), [("1", "<b>2</b>")], ("two",)) + figure("<?xml ?>\n<svg xmlns='x'/>", "c_i")
    )
    assert parsed(html).find("head/title").text == "a < b"  # type: ignore[union-attr]
    assert 'content="width=device-width, initial-scale=1"' in html
    assert "@media print" in html
    assert '<div class="scroll"><table>' in html
    assert "<figcaption>c<sub>i</sub></figcaption>" in html


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "evidence.html"
    file.write_text("the old one")
    assert main(["sign", "--instances", "4", "--report", str(file)]) == 0
    html = file.read_text(encoding="utf-8")
    parsed(html)
    assert list(tmp_path.iterdir()) == [file]
    for record in run(CLAIMS["sign"], 1):
        assert record.oracle in words(html)
    assert "dual_norm (not run)" in words(html)


def test_an_interrupted_run_leaves_the_old_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(case: int, rng: np.random.Generator, n: int) -> Iterator[Finding]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setitem(CLAIMS, "sign", replace(CLAIMS["sign"], check=stop))
    file = tmp_path / "evidence.html"
    file.write_text("the old one")
    assert main(["sign", "--report", str(file)]) == 130
    assert file.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [file]


def test_a_page_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, why in ((tmp_path / "no" / "page.html", "No such file or directory"), (tmp_path, "it is a folder")):
        with pytest.raises(SystemExit) as stop:
            main(["sign", "--report", str(file)])
        assert stop.value.code == 2
        assert f"--report {file} cannot be written ({why})" in capsys.readouterr().err


def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("verification.__main__.find_spec", lambda name: None if name == "latex2mathml" else object())
    with pytest.raises(SystemExit):
        main(["sign", "--report", str(tmp_path / "a.html")])
    assert '--report needs latex2mathml: pip install -c constraints.txt ".[report]"' in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    file.write_text("the old one")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "half \ud800 written")
    assert file.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [file]
