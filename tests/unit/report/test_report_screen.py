"""The terminal's tables: at every width whole, without colour clear, and never steered by foreign text."""

import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness import report


def printed(folder, width=100, language="en", encoding="utf-8", **options):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    data = json.loads((folder / "summary.json").read_text("utf-8"))
    report.terminal(data, Console(width=width, file=stream, **options), language)
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_line_is_wider_than_the_window_and_no_figure_is_cut(demo, width, language):
    text = printed(demo, width, language)
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    assert "0.860 [0.830, 0.890]" in text
    assert "★ fusion-self-attention" in text


def test_eighty_columns_have_origin_interval_coverage_and_latency(demo):
    row = next(line for line in printed(demo, 80).splitlines() if "smolvlm-pocket" in line)
    assert row.split() == ["smolvlm-pocket", "international", "0.660", "[0.630,", "0.690]", "98.5", "%", "28.4"]


def test_columns_that_do_not_fit_are_named(demo):
    assert "Not shown at this width: route, rank" in printed(demo, 80)
    assert "Not shown" not in printed(demo, 200)


def test_the_best_and_what_is_alike_are_marked_and_explained(demo):
    text = printed(demo)
    assert "≈ qwen3-vl-pocket" in text
    assert "★ best of its table; ≈ not distinguishable from the best" in text


def test_a_doubtful_interval_is_marked_with_its_reason(demo):
    text = printed(demo, 120)
    assert "siglip2_base †" in text
    assert "† This interval may cover less than it says: only 12 clusters (siglip2_base)." in text


def test_cells_without_a_score_are_a_line_with_the_reason(demo):
    text = printed(demo, 160)
    assert "skipped: qwen3-vl-pocket, internvl3-1b, smolvlm-pocket (no route: retrieval needs embed" in text
    assert "failed: internvl3-1b (OSError" in text


def test_foreign_text_is_no_markup_and_steers_no_terminal(demo):
    text = printed(demo, 160, force_terminal=True, color_system=None)
    assert "[red]corrupt[/red]" in text
    assert "\x1b[31mbyte" not in text


def test_a_model_name_is_no_markup(demo):
    path = demo / "summary.json"
    path.write_text(path.read_text("utf-8").replace("fusion-concat", "[bold]concat[/bold]"), "utf-8")
    assert any(line.startswith("[bold]concat[/bold] ") for line in printed(demo).splitlines())


def test_a_terminal_without_unicode_still_gets_the_table(demo):
    text = printed(demo, 100, encoding="ascii")
    assert "* fusion-self-attention" in text
    assert "~ qwen3-vl-pocket" in text


def test_pocket_models_are_called_tiny(demo):
    assert "say nothing of their families' full models" in " ".join(printed(demo).split())


def test_a_table_in_which_all_failed_says_so(demo):
    data = json.loads((demo / "summary.json").read_text("utf-8"))
    data["cells"] = [{**cell, "status": "failed", "reason": "no memory"} for cell in data["cells"][:3]]
    (demo / "summary.json").write_text(json.dumps(data), "utf-8")
    text = printed(demo)
    assert "Nothing was scored in this table." in text
    assert "(no memory)" in text
