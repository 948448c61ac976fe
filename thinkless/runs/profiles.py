"""Reads profiles: finds the file, applies what extends and overrides it, and says in one line what is wrong.

A profile is a YAML file in `thinkless/profiles/`, or any path ending in .yaml. It may `extend`
another one and then states only what differs. `load_profile("laptop", {"rl.alpha": 0.5})` applies
overrides, given as dotted keys or as nested mappings. Which keys there are, and which values they may have,
is checked in `settings.py` and `questions.py`; here a key that does not exist gets the nearest one that does.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from thinkless.errors import UserError
from thinkless.runs.schema import Section
from thinkless.runs.settings import Profile

FOLDER = Path(__file__).parents[1] / "profiles"


class ProfileError(UserError, ValueError):
    """A profile that does not exist or does not validate."""


def available_profiles() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_profile(name: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """The profile `name` (or a path to a YAML file) with `overrides` applied.

    Raises ProfileError, in one line, for an unknown profile, unknown key or impossible value.
    """
    values = _merged(_read(name), _nested(overrides or {}, name))
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise ProfileError(_one_line(error, values, name)) from None


def _read(name: str, children: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(name, str) or name in children:
        what = f"profile {children[-1]!r} cannot extend {name!r}" if children else f"profile {name!r}"
        raise ProfileError(f"{what}: expected {'another' if children else 'a'} profile's name")
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(f"unknown profile {name!r}{nearest(name, available_profiles())}") from None
    except OSError as error:
        raise ProfileError(f"cannot read profile {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ProfileError(f"profile {path}: expected a mapping of sections, got {type(values).__name__}")
    values.setdefault("name", path.stem)
    values = _nested(values, name)
    if "extends" in values:
        return _merged(_read(values.pop("extends"), (*children, name)), values)
    return values


def _nested(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Sections within sections, of which some may be written as dotted keys."""
    if not isinstance(values, Mapping):
        raise ProfileError(f"overrides must be a mapping such as {{'rl.alpha': 0.5}}, got {values!r}")
    result: dict[str, Any] = {}
    for dotted, value in values.items():
        *sections, last = str(dotted).split(".")
        target = result
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ProfileError(
                    f"profile {name!r}: {section} is {target!r}, expected a mapping of settings"
                )
        inside = target.get(last)
        if isinstance(value, Mapping):
            nested = _nested(value, name)
            target[last] = _merged(inside, nested) if isinstance(inside, dict) else nested
        else:
            target[last] = value
    return result


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `values`; another kind of section starts from nothing."""
    result = dict(values)
    if changes.get("kind", result.get("kind")) != result.get("kind"):
        result.clear()
    if changes.get("path", result.get("path")) != result.get("path"):
        result.pop("revision", None)  # a commit belongs to what it was pinned for
    for key, value in changes.items():
        old = result.get(key)
        result[key] = (
            _merged(old if isinstance(old, dict) else {}, value) if isinstance(value, dict) else value
        )
    return result


def known_keys(section: type[Section] = Profile, prefix: str = "") -> list[str]:
    """Every setting as a dotted key, such as ``rl.alpha``, of all kinds of section."""
    keys: dict[str, None] = {}
    for name, field in section.model_fields.items():
        members = [field.annotation, *get_args(field.annotation)]
        kinds = [member for member in members if isinstance(member, type) and issubclass(member, Section)]
        for kind in kinds:
            keys |= dict.fromkeys(known_keys(kind, f"{prefix}{name}."))
        if not kinds:
            keys[f"{prefix}{name}"] = None
    return list(keys)


def nearest(given: str, known: Sequence[str]) -> str:
    """The end of a message about a name that does not exist: the one that was meant, or all there are."""
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    if not close:  # a bare name: compare with the last part of each key
        parts = {key.rpartition(".")[2]: key for key in known}
        close = [
            parts[m]
            for m in difflib.get_close_matches(given.rpartition(".")[2], list(parts), n=1, cutoff=0.5)
        ]
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _one_line(error: ValidationError, values: Mapping[str, Any], name: str) -> str:
    problems = []
    for item in error.errors():
        where = ".".join(_written(item["loc"], values))
        if item["type"] == "extra_forbidden" and where in known_keys():
            problems.append(f"{where}: a setting of another kind of {where.rpartition('.')[0]}")
            continue
        if item["type"] == "extra_forbidden":
            what = "section" if isinstance(item["input"], dict) else "setting"
            problems.append(f"has no {what} {where!r}{nearest(where, known_keys())}")
            continue
        given = "" if item["type"] in ("value_error", "missing") else f", got {item['input']!r}"
        problems.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{given}")
    between = " " if problems[0].startswith("has no ") else ": "
    return f"profile {name!r}{between}" + "; ".join(problems)


def _written(location: tuple[str | int, ...], values: Any) -> Iterator[str]:
    """Spell a mistake's place as the profile writes it: pydantic names the kind of a section as well."""
    for part in location:
        if isinstance(values, Mapping) and part not in values and part == values.get("kind"):
            continue
        yield str(part)
        values = values.get(part) if isinstance(values, Mapping) else None
