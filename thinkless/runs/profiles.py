"""Profiles: every number of a run, in one typed and validated place.

A profile is a YAML file in `thinkless/profiles/`, or any path ending in .yaml. It may `extend`
another one and then states only what differs. `load_profile("laptop", {"rl.alpha": 0.5})` applies
overrides, given as dotted keys or as nested mappings. A key that does not exist is an error that
names the nearest one that does.
"""

import difflib
from collections.abc import Mapping
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
    values = _read(name)
    for dotted, value in _flatten(overrides or {}):
        _set(values, dotted, value, name)
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise ProfileError(_one_line(error, name)) from None


def _read(name: str, children: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(name, str) or name in children:
        what = f"profile {children[-1]!r} cannot extend {name!r}" if children else f"profile {name!r}"
        raise ProfileError(f"{what}: expected {'another' if children else 'a'} profile's name")
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(f"unknown profile {name!r}{_nearest(name, available_profiles())}") from None
    except OSError as error:
        raise ProfileError(f"cannot read profile {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ProfileError(f"profile {path}: expected a mapping of sections, got {type(values).__name__}")
    values.setdefault("name", path.stem)
    if "extends" in values:
        parent = _read(values.pop("extends"), (*children, name))
        for dotted, value in _flatten(values):
            _set(parent, dotted, value, name)
        return parent
    return values


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        raise ProfileError(f"overrides must be a mapping such as {{'rl.alpha': 0.5}}, got {values!r}")
    flat: list[tuple[str, Any]] = []
    for key, value in sorted(values.items(), key=lambda item: item[0] != "kind"):  # see _set
        dotted = f"{prefix}{key}"
        flat += _flatten(value, f"{dotted}.") if isinstance(value, Mapping) else [(dotted, value)]
    return flat


def _set(values: dict[str, Any], dotted: str, value: Any, name: str):
    *sections, last = dotted.split(".")
    known: list[type[Section]] = [Profile]
    target = values
    for section in sections:
        known = [member for kind in known for member in _kinds(kind, section)]
        if not known:
            raise ProfileError(f"profile {name!r} has no section {section!r}{_nearest(dotted, known_keys())}")
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ProfileError(f"profile {name!r}: {section} is {target!r}, expected a mapping of settings")
    if not any(last in kind.model_fields for kind in known):
        raise ProfileError(f"profile {name!r} has no setting {dotted!r}{_nearest(dotted, known_keys())}")
    if last == "kind" and target.get("kind") != value:  # another kind of section starts from nothing
        target.clear()
    target[last] = value


def _kinds(section: type[Section], field: str) -> list[type[Section]]:
    """The kinds of section that a field may hold; none if it holds a plain value or does not exist."""
    info = section.model_fields.get(field)
    members = [] if info is None else [info.annotation, *get_args(info.annotation)]
    return [member for member in members if isinstance(member, type) and issubclass(member, Section)]


def known_keys(section: type[Section] = Profile, prefix: str = "") -> list[str]:
    """Every setting as a dotted key, such as ``rl.alpha``, of all kinds of section."""
    keys: dict[str, None] = {}
    for name in section.model_fields:
        kinds = _kinds(section, name)
        for kind in kinds:
            keys |= dict.fromkeys(known_keys(kind, f"{prefix}{name}."))
        if not kinds:
            keys[f"{prefix}{name}"] = None
    return list(keys)


def _nearest(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    if not close:  # a bare name: compare with the last part of each key
        parts = {key.rpartition(".")[2]: key for key in known}
        close = [
            parts[m]
            for m in difflib.get_close_matches(given.rpartition(".")[2], list(parts), n=1, cutoff=0.5)
        ]
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _one_line(error: ValidationError, name: str) -> str:
    problems = []
    for item in error.errors():
        where = ".".join(str(part) for part in _without_kinds(item["loc"]))
        text = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] in ("value_error", "missing") else f", got {item['input']!r}"
        nearest = _nearest(where, known_keys()) if item["type"] == "extra_forbidden" else ""
        problems.append(f"{where}: {text}{given}{nearest}")
    return f"profile {name!r}: " + "; ".join(problems)


def _without_kinds(location: tuple[str | int, ...]) -> list[str | int]:
    """Where a mistake is, as the profile writes it: pydantic names the kind of a section as well."""
    parts: list[str | int] = []
    known: list[type[Section]] = [Profile]
    for part in location:
        chosen = [
            kind
            for kind in known
            if get_args(getattr(kind.model_fields.get("kind"), "annotation", None)) == (part,)
        ]
        if chosen:
            known = chosen
            continue
        parts.append(part)
        known = [member for kind in known for member in _kinds(kind, str(part))]
    return parts
