"""YAML is read in one way: what two versions of it read differently is refused, in one line with its place."""

import shutil
from pathlib import Path
from runpy import run_module
from types import SimpleNamespace

import pytest

from pullback.study import StudyError, load_study, opening, read_study
from pullback.study.reading import from_command_line, parse_yaml, refuse_repeated_flags


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-1", 0.1),
        ("a: 1E5", 1e5),
        ("a: .5e3", 500.0),
        ("a: 1.5e-3", 0.0015),
        ("a: 1_000", 1000),
        ("a: 0x1f", 31),
        ("a: 2024-01-01", "2024-01-01"),
        ("a: '1e-1'", "1e-1"),
        ("a: [true, ~, 0, -0.5]", [True, None, 0, -0.5]),
        ("a: {1: x, no: y, 010: z}", {"1": "x", "no": "y", "010": "z"}),
        ("a: {<<: [{b: 1, c: 1}, {b: 2}], c: 3}", {"b": 1, "c": 3}),
        ("\ufeffa: 1", 1),
    ],
)
def test_values_are_read_as_what_they_are(text, value):
    assert parse_yaml(text, "s.yaml") == {"a": value}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\na: no", "line 2: `no` is read in two ways by versions of YAML: write false, or 'no' in quotes for text"),
        ("a: 010", "line 1: `010` is read in two ways by versions of YAML: write 10, 8 if it is octal, or '010' in"),
        ("a: 1:30", "line 1: `1:30` is read in two ways by versions of YAML: write 90, or '1:30' in quotes for text"),
        ("a: [1,\n .inf]", "line 2: `.inf` is no finite number: write one, or leave the key out"),
        ("a: .nan", "line 1: `.nan` is no finite number"),
        ("a: 1e999", "line 1: `1e999` is no finite number"),
        ("a: " + "9" * 5000, "cannot be read as !!int: write another value"),
        ("a: &a {b: *a}", "line 1: a block that contains itself: take the alias (*) out"),
        ("a: 1\n[b]: 2", "line 2: a key is a list or a block, wanted a name"),
        ("a: {b: 1}\na: 2", "the key 'a' stands twice, on lines 1 and 2; keep one"),
        ("a: [1", "line 1: not valid YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a: 1\n\tb: 2", "line 2: not valid YAML: while scanning"),
        ("a: 1\n---\nb: 2", "line 2: not valid YAML: expected a single document"),
        ("a: 1\nb: \x07", "line 2: the character U+0007 may not stand in YAML"),
        ("a: !!python/object:os.system 1", "line 1: the tag !!python/object:os.system has no meaning in a study"),
        ("a: !own {b: 1}", "line 1: the tag !own has no meaning in a study"),
        ("a: " + "[" * 3000, "blocks in blocks beyond what can be read"),
    ],
)
def test_what_is_not_clear_is_one_line(text, said):
    with pytest.raises(StudyError) as caught:
        parse_yaml(text, "s.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("s.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: caf\xe9\n", "line 2: byte 0xe9 is not UTF-8: save the file in UTF-8"),
        (b"", "the file is empty, wanted a mapping of keys"),
        (b"- a", "the file holds list, wanted a mapping of keys"),
    ],
)
def test_files_that_hold_no_study(content, said, tmp_path):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(StudyError, match=said):
        read_study(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"problems": {3: 1}}, "problems: the key 3 is no text: quote it"),
        ({"problems": {"a": [1.0, float("nan")]}}, r"problems.a\[1\]: nan is no finite number"),
        ({"seed": {1, 2}}, "seed: {1, 2} is of type set, wanted plain"),
    ],
)
def test_a_config_from_python_holds_what_a_file_can_hold(config, said):
    with pytest.raises(StudyError, match=said):
        load_study(config)


def test_the_command_line_is_read_as_a_file_is():
    assert from_command_line(["seed=5", "problems={a: {b: 1e-1}}", "title="]) == {
        "seed": 5,
        "problems": {"a": {"b": 0.1}},
        "title": None,
    }
    with pytest.raises(StudyError, match="--config gives the key 'seed' twice: keep one"):
        from_command_line(["seed=5", "seed=6"])
    with pytest.raises(StudyError, match="--config seed, line 1: `010` is read in two ways"):
        from_command_line(["seed=010"])


def test_make_run_reads_the_study_before_snakemake_does(tmp_path, monkeypatch, capsys):
    """Who shows a traceback of a file that is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pullback.study", "none.yaml"])
    with pytest.raises(SystemExit, match=r"pullback: none\.yaml: cannot be read"):
        run_module("pullback.study", run_name="__main__")
    shutil.copy(Path(__file__).parents[1] / "workflow/studies/tiny.yaml", "none.yaml")
    run_module("pullback.study", run_name="__main__")
    assert capsys.readouterr().out == ""
    (tmp_path / "results/tiny/report").mkdir(parents=True)
    (tmp_path / "results/tiny/report/index.html").touch()
    run_module("pullback.study", run_name="__main__")
    assert capsys.readouterr().out == f"The report of the last run: {tmp_path}/results/tiny/report/index.html\n"


def test_a_config_that_contains_itself_is_left_to_the_file():
    """Comparing it with what Snakemake read has no end; reading the file names the line."""
    inner, outer = {}, {}
    inner["a"], outer["a"] = inner, outer
    settings = SimpleNamespace(configfiles=[], replace_workflow_config=False, overwrite_config={"b": inner})
    workflow = SimpleNamespace(config_settings=settings, configfiles=[])
    assert not opening._was_changed(workflow, {"b": outer})
    assert opening._was_changed(workflow, {"b": 1})


def test_an_option_of_which_snakemake_takes_the_last_is_refused():
    refuse_repeated_flags(["--configfile", "a.yaml", "--config", "a=1", "--", "--config"])
    for twice in (["--configfile=a.yaml", "--configfiles", "b.yaml"], ["--config", "a=1", "-C", "b=1"]):
        with pytest.raises(StudyError, match="stands twice, and Snakemake takes the last alone"):
            refuse_repeated_flags(twice)
