"""Proves that a profile is right or refused in one line, and that overrides and `extends` do what they say.

Run: python -m pytest tests/runs/test_profiles.py
"""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thinkless.runs.profiles import ProfileError, available_profiles, known_keys, load_profile


def message_of(name="smoke", overrides=None) -> str:
    """The error that loading gives; every one has to be a single line."""
    with pytest.raises(ProfileError) as error:
        load_profile(name, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_laptop_and_smoke_are_there():
    assert {"laptop", "smoke"} <= set(available_profiles())


@pytest.mark.parametrize("name", available_profiles())
def test_every_shipped_profile_loads(name):
    profile = load_profile(name)
    assert profile.name == name
    assert len(profile.description) > 20


@pytest.mark.parametrize("name", available_profiles())
def test_every_key_of_every_section_can_be_overridden_by_its_own_value(name):
    profile = load_profile(name)
    own = dict(flat(profile.model_dump()))
    assert own.keys() <= {*known_keys(), "base"}
    for key, value in own.items():
        assert load_profile(name, {key: value}) == profile


def flat(values, prefix=""):
    """(dotted key, value) of every setting in nested sections."""
    for key, value in values.items():
        yield from (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(prefix + key, value)]
        )


def test_a_profile_cannot_be_changed_after_loading():
    profile = load_profile("smoke")
    with pytest.raises(ValidationError, match="frozen"):
        profile.rl.alpha = 2.0


# Overrides


def test_dotted_and_nested_overrides_agree():
    dotted = load_profile("smoke", {"rl.alpha": 0.25, "rl.steps": 7, "problems.redundancy": 1})
    nested = load_profile("smoke", {"rl": {"alpha": 0.25, "steps": 7}, "problems": {"redundancy": 1}})
    mixed = load_profile("smoke", {"rl": {"alpha": 0.25}, "rl.steps": 7, "problems": {"redundancy": 1}})
    assert dotted == nested == mixed
    assert (dotted.rl.alpha, dotted.rl.steps) == (0.25, 7)


def test_an_override_changes_nothing_else():
    before, after = load_profile("smoke").model_dump(), load_profile("smoke", {"rl.gamma": 0.25}).model_dump()
    assert before["rl"].pop("gamma") != after["rl"].pop("gamma")
    assert before == after


def test_a_whole_number_is_a_fine_real_number_and_not_the_reverse():
    assert load_profile("smoke", {"rl.alpha": 2}).rl.alpha == 2.0
    assert "rl.steps: Input should be a valid integer" in message_of(overrides={"rl.steps": 2.5})


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.1e-2", "1.0e-3", "1.e-3", ".1e-2", "+10e-4", "'1e-3'"])
def test_a_power_of_ten_is_a_number_however_it_is_written(text, tmp_path):
    """To YAML 1.1, which PyYAML and papermill's -y read, most of these are text."""
    mine = write(tmp_path / "mine.yaml", f"extends: smoke\nrl: {{learning_rate: {text}}}\n")
    overrides = yaml.safe_load(f"{{rl.learning_rate: {text}, problems.mix: [1, 1, {text}]}}")
    assert load_profile(mine).rl.learning_rate == 0.001
    assert load_profile("smoke", overrides).rl.learning_rate == 0.001
    assert load_profile("smoke", overrides).problems.mix == [1, 1, 0.001]


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    mine = write(tmp_path / "mine.yaml", "extends: smoke\ndescription: 1e5\n")
    assert load_profile(mine).description == "1e5"


# Errors name what was given and the nearest thing that exists


@pytest.mark.parametrize(
    ("name", "nearest"), [("latpop", "laptop"), ("smokee", "smoke"), ("quantum", "there are cluster, ")]
)
def test_an_unknown_profile(name, nearest):
    message = message_of(name)
    assert message.startswith(f"unknown profile {name!r}")
    assert nearest in message


@pytest.mark.parametrize(
    ("overrides", "nearest"),
    [
        ({"rl.alhpa": 1.0}, "rl.alpha"),
        ({"rl": {"alhpa": 1.0}}, "rl.alpha"),
        ({"alpha": 1.0}, "rl.alpha"),
        ({"rl.learnig_rate": 1.0}, "rl.learning_rate"),
        ({"problems.verbose": "long"}, "problems.verbosity"),
        ({"descripton": "x"}, "description"),
    ],
)
def test_an_unknown_setting(overrides, nearest):
    message = message_of(overrides=overrides)
    assert f"did you mean {nearest!r}?" in message
    assert message.startswith("profile 'smoke' has no setting")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"lr.alpha": 1.0}, "has no section 'lr'"),
        ({"lr": {"alpha": 1.0}}, "has no section 'lr'"),
        ({"rl.alpha.x": 1}, "rl.alpha: Input should be a valid number, got {'x': 1}"),
        ({"name.x": 1}, "name: Input should be a valid string, got {'x': 1}"),
    ],
)
def test_an_unknown_section(overrides, expected):
    assert expected in message_of(overrides=overrides)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"rl.alpha": float("inf")}, "rl.alpha: Input should be a finite number, got inf"),
        ({"rl.alpha": "1e999"}, "rl.alpha: Input should be a finite number, got inf"),
        ({"rl.steps": "1e3"}, "rl.steps: Input should be a valid integer, got '1e3'"),
        ({"rl.alpha": "0.5"}, "rl.alpha: Input should be a valid number, got '0.5'"),
        ({"rl.alpha": "big"}, "rl.alpha: Input should be a valid number, got 'big'"),
        ({"rl.steps": "7"}, "rl.steps: Input should be a valid integer, got '7'"),
        ({"rl.alpha": 0}, "rl.alpha: Input should be greater than 0, got 0"),
        ({"rl.gamma": 1.0}, "rl.gamma: Input should be less than 1, got 1.0"),
        ({"rl.steps": True}, "rl.steps: Input should be a valid integer, got True"),
        ({"rl.schedule": "lineal"}, "rl.schedule: Input should be 'constant', 'constant_with_warmup'"),
        ({"rl": 3}, "rl: Input should be a valid dictionary"),
        ({"rl.arms": ["grpo", "drgrpo"]}, "expected some of grpo, dr_grpo"),
        ({"rl.arms": []}, "expected some of grpo, dr_grpo"),
        ({"rl.micro_batch": 3}, "micro_batch=3 does not divide the completions of a step"),
        ({"sft.batch_size": 7}, "sft.batch_size: Input should be a multiple of 2, got 7"),
        ({"problems.verbosity": "short"}, "expected one of bare, restated, long"),
        ({"problems.mix": [1.0]}, "expected 3 shares, none negative, not all zero"),
        ({"problems.mix": [0.0, 0.0, 0.0]}, "expected 3 shares, none negative, not all zero"),
        ({"base.levels": [0.5, 0.5]}, "base.levels=[0.5, 0.5]: expected 3 shares, none negative, not all"),
        ({"problems.noise_short": [0.1]}, "noise_short has 1 entries: expected one for each of 3 levels"),
        ({"problems.noise_think": [0.1, 2.0, 0.1]}, "every entry must lie between 0 and 1"),
        ({"problems.held_out_per_level": 301}, "problems.held_out_per_level: Input should be less than"),
    ],
)
def test_an_impossible_value(overrides, expected):
    message = message_of(overrides=overrides)
    assert expected in message
    assert message.startswith("profile 'smoke': ")


def test_several_mistakes_are_all_named():
    message = message_of(overrides={"rl.alpha": -1.0, "sft.batch_size": 3})
    assert "rl.alpha" in message
    assert "sft.batch_size" in message


@pytest.mark.parametrize("overrides", [["rl.alpha"], "rl.alpha", 3])
def test_overrides_that_are_no_mapping(overrides):
    assert "overrides must be a mapping such as {'rl.alpha': 0.5}" in message_of(overrides=overrides)


@given(st.text(max_size=12) | st.sampled_from(known_keys()).map(lambda key: key[:-1]))
def test_any_unknown_key_is_one_line(key):
    if key not in known_keys():
        message_of(overrides={key: 1})


# Files


def write(path, values):
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return str(path)


def test_a_file_extends_a_shipped_profile(tmp_path):
    mine = write(tmp_path / "mine.yaml", {"extends": "smoke", "rl": {"alpha": 0.125}, "model.layers": 1})
    profile = load_profile(mine, {"rl.steps": 9})
    assert profile.name == "mine"
    expected = load_profile("smoke", {"rl.alpha": 0.125, "model.layers": 1, "rl.steps": 9}).model_dump()
    assert {**profile.model_dump(), "name": "smoke"} == expected


def test_extends_goes_through_several_files(tmp_path):
    first = write(tmp_path / "first.yaml", {"extends": "smoke", "rl": {"alpha": 0.125, "steps": 2}})
    second = write(tmp_path / "second.yaml", {"extends": first, "rl": {"steps": 3}})
    assert (load_profile(second).rl.alpha, load_profile(second).rl.steps) == (0.125, 3)


def test_a_list_replaces_a_list(tmp_path):
    mine = write(tmp_path / "mine.yaml", {"extends": "smoke", "rl": {"arms": ["dr_grpo"]}})
    assert load_profile(mine).rl.arms == ["dr_grpo"]


def test_a_whole_profile_in_a_file_of_ones_own(tmp_path):
    values = load_profile("laptop").model_dump(exclude={"name"})
    mine = write(tmp_path / "mine.yaml", values)
    assert load_profile(mine).model_dump(exclude={"name"}) == values
    values["rl"]["alhpa"] = values["rl"].pop("alpha")
    assert "did you mean 'rl.alpha'?" in message_of(write(tmp_path / "mine.yaml", values))
    assert "rl.alpha: Field required" in message_of(write(tmp_path / "mine.yaml", values))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rl: [1, 2", "is not valid YAML"),
        ("just a line", "expected a mapping of sections, got str"),
        ("", "expected a mapping of sections, got NoneType"),
        ("extends: smoek", "did you mean 'smoke'?"),
        ("extends: smoke\nrl: {alhpa: 1}", "did you mean 'rl.alpha'?"),
        ("extends: smoke\nrl: 3", "rl: Input should be a valid dictionary"),
    ],
)
def test_a_broken_file(text, expected, tmp_path):
    assert expected in message_of(write(tmp_path / "mine.yaml", text))


def test_a_missing_file(tmp_path):
    assert "unknown profile" in message_of(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("overrides", [{"rl": 3, "rl.alpha": 1.0}, {"rl": None, "rl.alpha": 1.0}])
def test_a_setting_inside_something_that_is_no_section(overrides):
    assert f"rl is {overrides['rl']}, expected a mapping of settings" in message_of(overrides=overrides)


def test_profiles_that_extend_each_other(tmp_path):
    write(tmp_path / "a.yaml", {"extends": str(tmp_path / "b.yaml")})
    write(tmp_path / "b.yaml", {"extends": str(tmp_path / "a.yaml")})
    assert "cannot extend" in message_of(str(tmp_path / "a.yaml"))


def test_extends_that_is_no_name(tmp_path):
    assert "cannot extend 3" in message_of(write(tmp_path / "mine.yaml", {"extends": 3}))
    assert "profile 5: expected a profile's name" in message_of(5)


def test_a_folder_is_no_profile(tmp_path):
    (tmp_path / "mine.yaml").mkdir()
    message = message_of(str(tmp_path / "mine.yaml"))
    assert message == f"cannot read profile {tmp_path / 'mine.yaml'}: Is a directory"


def test_batches_must_split_evenly_over_processes():
    # smoke: 4 questions x 4 completions in micro-batches of 16 make one micro-batch, not shareable by two
    with pytest.raises(ProfileError, match=r"launch\.processes=2 does not divide") as error:
        load_profile("smoke", {"launch.processes": 2})
    assert "micro_batch=1" in str(error.value)
    assert load_profile("smoke", {"launch.processes": 2, "rl.micro_batch": 8}).launch.processes == 2


# Sections of several kinds

FULL = {
    "problems": {"kind": "math", "train": "deepscaler", "evaluate": ["math_500"]},
    "model": {"kind": "pretrained", "path": "some/model"},
    "base": None,
    "distill.think": {"kind": "data", "path": "some/answers"},
    "distill.short": {"kind": "server", "base_url": "http://localhost:8000/v1", "model": "m"},
    "distill.max_tokens": 64,
    "rl.max_tokens": 64,
    "evaluation.max_tokens": 64,
}
"""What turns `smoke` into a run on published models and questions."""
SHARDED = {"launch.processes": 2, "launch.sharding": "fsdp2", "rl.micro_batch": 8}


def test_another_kind_of_section_replaces_the_old_one_whole():
    profile = load_profile("smoke", FULL)
    assert (profile.problems.kind, profile.problems.train) == ("math", "deepscaler")
    assert (profile.model.path, profile.base) == ("some/model", None)
    assert profile.distill.short.parallel == 64


def test_a_commit_goes_with_the_path_that_it_pins():
    path = load_profile("h100x4").model
    assert len(path.revision) == 40
    assert load_profile("h100x4", {"model.path": path.path}).model == path
    assert load_profile("h100x4", {"model.path": "another/model"}).model.revision is None
    both = {"model.path": "another/model", "model.revision": "v2"}
    assert load_profile("h100x4", both).model.revision == "v2"
    assert load_profile("gpu").model.revision != path.revision


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"problems.kind": "maths"}, "problems: Input tag 'maths'"),
        ({"problems.train": "deepscaler"}, "problems.train: a setting of another kind of problems"),
        ({**FULL, "problems.levels": 5}, "problems.levels: a setting of another kind of problems"),
        ({**FULL, "model": {"kind": "pretrained"}}, "model.path: Field required"),
        ({"model": FULL["model"]}, "model.kind='pretrained' does not go with problems.kind='chain'"),
        (
            {**FULL, "distill.short": {"kind": "cue"}},
            "distill.short.kind='cue': expected 'model' or 'server'",
        ),
        ({"distill.think": FULL["distill.think"]}, "distill.think.kind='data': expected 'cue'"),
        (
            {**FULL, "distill.short": FULL["distill.think"], "distill.think": FULL["distill.short"]},
            "distill.short.kind='data': expected 'model' or 'server'",
        ),
        ({"rl.reject_equal_groups": True, "rl.beta": 0.1}, "reject_equal_groups needs beta=0, got 0.1"),
        ({**FULL, "rl.max_tokens": None}, "rl.max_tokens: needed for problems.kind='math'"),
        ({"base": None}, "section base: needed for model.kind='scratch'"),
        ({"sft": None}, "section sft: needed for model.kind='scratch'"),
        ({"launch.sharding": "fsdp2"}, "sharding='fsdp2' needs processes of at least 2"),
        (
            {**SHARDED, "rl.engine": "server", "rl.server": "http://gpu1:8000"},
            "rl.engine='server' does not go with launch.sharding='fsdp2'",
        ),
        ({"launch.processes": 4, "launch.machines": 3}, "machines=3 does not divide processes=4"),
        ({"sft.micro_batch": 3}, "sft.micro_batch=3 does not divide a process's share"),
        ({"rl.updates_per_step": 2}, "does not divide the completions of a step"),
    ],
)
def test_sections_that_do_not_belong_together(overrides, expected):
    assert expected in message_of(overrides=overrides)
