"""Models set against one another: the signs, intervals and verdicts of differences, whichever way a pair is stored."""

import json

from harness.report import comparisons, summary
from harness.report.strings import Strings

STRINGS = Strings("en")


def data_of(folder, change=None):
    data = json.loads((folder / "summary.json").read_text("utf-8"))
    if change is not None:
        change(data)
    return summary.parse(data)


def test_the_best_model_stands_first_in_each_difference(demo):
    table = comparisons.pairs(data_of(demo).groups[0], STRINGS)
    assert table is not None
    assert [row.cells[:2] for row in table.rows] == [
        ("qwen3-vl-pocket", "+0.020 [-0.020, +0.060]"),
        ("fusion-concat", "+0.160 [+0.120, +0.200]"),
        ("smolvlm-pocket", "+0.200 [+0.160, +0.240]"),
    ]


def test_only_a_corrected_p_below_five_percent_shows_a_difference(demo):
    def borderline(data):
        for row, p in zip(data["comparisons"], (0.0499, 0.05, None), strict=False):
            row["p_adjusted"] = p

    table = comparisons.pairs(data_of(demo, borderline).groups[0], STRINGS)
    assert table is not None
    assert {row.cells[0]: row.cells[3] for row in table.rows} == {
        "fusion-concat": "yes",
        "qwen3-vl-pocket": "no",
        "smolvlm-pocket": "—",
    }


def test_gaps_between_origins_have_intervals_and_say_what_was_not_shown(demo):
    table = comparisons.origins(data_of(demo), STRINGS)
    assert table is not None
    assert table.rows[0].cells == (
        "vqa · pocket · English exact_match",
        "0.860 fusion-self-attention",
        "0.840 qwen3-vl-pocket",
        "0.660 smolvlm-pocket",
        "≈ +0.020 [-0.020, +0.060]",
        "+0.200 [+0.160, +0.240]",
    )


def test_models_of_one_origin_have_no_gaps(demo):
    def at_home(data):
        for cell in data["cells"]:
            cell["origin"] = "reference" if cell["origin"] == "reference" else "domestic"

    assert comparisons.origins(data_of(demo, at_home), STRINGS) is None


def test_a_single_table_needs_no_overview(demo):
    assert comparisons.overview(data_of(demo), STRINGS) is not None
    assert comparisons.overview(data_of(demo, lambda data: data.update(cells=data["cells"][:8])), STRINGS) is None


def test_standings_are_shown_as_they_were_computed(demo):
    table = comparisons.standings(data_of(demo), STRINGS)
    assert table is not None
    assert table.rows[0].cells == ("fusion-self-attention", "0.900 [0.800, 1.000]", "1.250 [1.050, 1.550]", "6")
