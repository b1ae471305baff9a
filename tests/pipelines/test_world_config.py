"""What worlds there are, and what no world can be."""

import pytest

from features.errors import ContractError
from pipelines.world.config import (
    FAMILIES,
    MECHANISMS,
    PRESETS,
    SCALES,
    WorldConfig,
    allowed,
    configure,
)

CONCEPT = {"kind": "concept", "start_day": 0, "size": 0.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": 0}, r"world parameter users is 0; allowed: 1 … 1,000,000"),
        ({"charm": -0.1}, r"world parameter charm is -0\.1; allowed: 0 … 5"),
        ({"launches": -1}, r"world parameter launches is -1; allowed: 0 … 0\.2"),
        ({"explored": 1.5}, r"world parameter explored is 1\.5; allowed: 0 … 1"),
        ({"slots": 9, "items": 8}, r"world parameter slots is 9; allowed: 1 … 8, the items"),
        ({"half_life_days": 0}, r"world parameter half_life_days is 0; allowed: > 0 … 1,000"),
        ({"family": "magic"}, r"world parameter family is 'magic'; .*'position'"),
        ({"colour": 1}, r"no world parameter 'colour'; docs/world\.md lists them"),
        ({"user": 1}, r"no world parameter 'user'; did you mean users\?"),
        ({"stock": 0}, r"world parameter stock is 0; allowed: > 0 … 1,000,000"),
        ({"charm": float("nan")}, r"world parameter charm is nan; allowed: 0 … 5"),
        ({"switched_off": ["gravity"]}, r"world parameter switched_off\.0 is 'gravity'; .*'trust'"),
        (
            {"shifts": [{"kind": "concept"}]},
            r"shifts\.0\.start_day is missing; allowed: -400 … 400",
        ),
        ({"shifts": [CONCEPT | {"size": -1}]}, r"shifts\.0\.size is -1; allowed: 0 … 5"),
        ({"shifts": [CONCEPT | {"size": 2}]}, r"size of a concept shift is 2; allowed: 0 … 1"),
        ({"shifts": [CONCEPT | {"ramp_days": 3, "days": 2}]}, r"ramp_days is 3; allowed: 0 … 2"),
    ],
)
def test_the_impossible_is_refused_with_field_and_range(changes, message):
    with pytest.raises(ContractError, match=message):
        configure("tiny", **changes)


def test_unknown_names_are_told_the_known_ones():
    with pytest.raises(ContractError, match="no scale 'huge'; choose one of tiny, small, full"):
        configure("huge")
    with pytest.raises(ContractError, match="no preset 'calm'; choose one of base, biased_logger"):
        configure("tiny", preset="calm")


def test_a_change_is_checked_as_the_whole_was():
    with pytest.raises(ContractError, match="allowed: 0 … 1"):
        configure("tiny").but(trust_mean=2)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_world_and_deviates_only_in_what_it_names(preset):
    config, base = configure("tiny", preset=preset), configure("tiny")
    differing = {
        name for name in WorldConfig.model_fields if getattr(config, name) != getattr(base, name)
    }
    assert differing - {"preset"} == set(PRESETS[preset])


def test_each_mechanism_is_switched_off_alone():
    for mechanism in MECHANISMS:
        config = configure("tiny").without(mechanism)
        assert [name for name in MECHANISMS if not config.on(name)] == [mechanism]


def test_every_parameter_has_a_reason_and_every_number_a_range():
    for name, field in WorldConfig.model_fields.items():
        assert field.description, name
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert allowed(field) != "–", name


def test_three_families_and_three_scales():
    assert FAMILIES == ("position", "trust", "cascade")
    assert list(SCALES) == ["tiny", "small", "full"]
