"""JSON, Markdown and plots."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.report import main, overview, render, table, write_report
from bench.results import ProxyResult, Results, load, save
from support.bench_results import measured, results, scenario


def run() -> Results:
    """One scenario with all that may happen to a proxy, and a line."""
    lost = ProxyResult(void="a wrong byte | in the body")
    return results(
        scenario(
            "tls-keepalive",
            vsproxy=measured(9.0, 10.0, 12.0),
            nginx=measured(10.0, 10.0, 10.0, busy=0.5),
            haproxy=lost,
            caddy=ProxyResult(skipped="not installed"),
        ),
        scenario("routes-1", "routes", 1, vsproxy=measured(10.0), nginx=measured(10.0)),
        scenario("routes-100", "routes", 100, vsproxy=measured(11.0), nginx=measured(30.0)),
    )


def row(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]


def section(text: str, title: str) -> str:
    return text.split(f"### {title}\n")[1].split("\n### ")[0]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save(run(), path)
    assert load(path) == run()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 0}', '{"format": 1, "scenarios": [{}]}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(BenchError):
        load(path)
    assert main([str(path)]) == 1


def test_the_report_has_figures_ratios_and_reasons() -> None:
    text = section(render(run()), "Title of tls-keepalive")
    ours = row(text, "vsproxy")
    assert ours[1:3] == ["10.00", "1.00 (0.90-1.20)"]
    assert ours[3:5] == ["2.50", "7.50"]
    assert ours[-4:] == ["2,000", "99%", "2.0", "none"]
    assert row(text, "nginx")[-3] == "50% !"
    assert row(text, "haproxy")[-1] == "VOID: a wrong byte / in the body"
    assert row(text, "caddy")[-1] == "not installed"


def test_all_figures_stand_in_one_table() -> None:
    text = overview(run())
    head, _, first, *_ = text.splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "scenario", "vsproxy", "nginx", "haproxy", "caddy", "ratio",
    ]  # fmt: skip
    figures = [cell.strip() for cell in first.strip("|").split("|")][1:]
    assert figures == ["10.00", "10.00", "-", "-", "1.00 (0.90-1.20)"]


def test_the_report_has_lines_targets_and_the_machine() -> None:
    text = render(run())
    assert row(section(text, "Growth: routes"), "nginx") == ["nginx", "10.00", "30.00", "3.00"]
    assert row(text, "tls-keepalive")[2:] == ["1.00", "1.00", "0.90", "met"]
    assert row(text, "processor") == ["processor", "Some CPU"]
    assert row(section(text, "Growth: routes"), "vsproxy")[-1] == "1.10"
    assert "compiled" in text


def test_a_rival_without_growth_leaves_no_ratio() -> None:
    found = results(scenario("idle-keepalive", vsproxy=measured(2.0), nginx=measured(0.0)))
    assert row(section(render(found), "Title of idle-keepalive"), "vsproxy")[1:3] == ["2.00", "-"]


def test_plots_are_made_and_linked(tmp_path: Path) -> None:
    text = write_report(run(), tmp_path).read_text()
    for name in ("tls-keepalive.svg", "growth-routes.svg"):
        assert f"]({name})" in text
        drawn = "".join(ET.parse(tmp_path / name).getroot().itertext())
        assert "nginx" in drawn
        assert "vsproxy" in drawn
    assert "haproxy" not in "".join(ET.parse(tmp_path / "tls-keepalive.svg").getroot().itertext())


def test_it_is_made_again_from_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(run(), tmp_path / "results.json")
    assert main([str(tmp_path / "results.json"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.md").read_text() == write_report(run(), tmp_path).read_text()
    assert (tmp_path / "again" / "growth-routes.svg").read_bytes() == (tmp_path / "growth-routes.svg").read_bytes()
    assert "report.md" in capsys.readouterr().out


def test_nothing_measured_is_a_report_too(tmp_path: Path) -> None:
    missing = results(scenario("upload", vsproxy=ProxyResult(void="it ended")))
    assert "VOID: it ended" in write_report(missing, tmp_path).read_text()


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["C"])), min_size=2, max_size=2), max_size=4))
def test_a_table_keeps_its_shape(rows: list[list[str]]) -> None:
    made = table(("a", "b"), rows).split("\n")
    assert len(made) == 2 + len(rows)
    assert all(line.replace("\\|", "").count("|") == 3 for line in made)
