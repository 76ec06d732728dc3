"""Reading settings files: TOML, checked by pydantic, with errors a reader can act on."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from plantfed_shared.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


_WORDS_OF_TOML = {
    "tuple_type": "Input should be a list in [ ]",
    "dict_type": "Input should be a table",
    "model_type": "Input should be a table",
    "path_type": "Input should be a path in quotes",
}
"""Where pydantic speaks of Python."""


def read_settings(path: Path, model: type[Model]) -> Model:
    """Read a TOML file into a settings model.

    Raises:
        ConfigError: the file is missing, is not TOML, or a key or value is not allowed; the
            message names file, key, value and what is allowed.
    """
    try:
        # Windows' editor begins a file with a byte order mark
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), hint="Give the path of one") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"line {line} is not UTF-8", where=str(path), hint="Save it as UTF-8"
        ) from None
    return parse_settings(text, model, str(path))


def parse_settings(text: str, model: type[Model], where: str) -> Model:
    """Read TOML into a settings model.

    Raises:
        ConfigError: as of :func:`read_settings`.
    """
    try:
        document = tomllib.loads(text)
    # integers of thousands of digits are no TOMLDecodeError, nor are thousands of brackets
    except ValueError as error:
        raise ConfigError(f"is not TOML: {error}", where=where) from None
    except RecursionError:
        raise ConfigError("is not TOML: too many brackets in each other", where=where) from None
    return check_settings(document, model, where)


def check_settings(document: dict[str, Any], model: type[Model], where: str) -> Model:
    """Validate already parsed settings.

    Args:
        document: the settings.
        model: what they must be.
        where: they come from; empty for a command line, whose error begins with its program.

    Raises:
        ConfigError: names ``where``, the key, the value and what is allowed.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _explain(error, model, where) from None


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> ConfigError:
    problems = error.errors(include_url=False, include_context=False)
    # a misspelt key is the cause of the key that is then missing
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(_allowed_keys(model, first["loc"][:-1]))
        what = f"unknown key {key!r}"
        hint = f"Allowed here: {allowed}" if allowed else "Remove it"
    elif first["type"] == "missing":
        what, hint = f"key {key!r} is missing", "Add it"
    else:
        # a whole section would hide what is wrong with it
        whole = isinstance(first["input"], dict)
        value = "" if whole else f" = {_shown(key, first['input'])}"
        named = f"{key}{value}: " if key else ""
        said = first["msg"].removeprefix("Value error, ")
        what, hint = f"{named}{_WORDS_OF_TOML.get(first['type'], said)}", ""
        if first["type"] == "tuple_type" and whole:
            hint = f"Write [[{key}]]"
    if len(problems) > 1:
        hint = f"{hint}{'. ' if hint else ''}({len(problems) - 1} more after this one)"
    return ConfigError(what, where=where, hint=hint)


def _shown(key: str, value: object) -> str:
    secret = isinstance(value, dict) and any("password" in name for name in value)
    text = repr(value)
    if secret or "password" in key or ("://" in text and "@" in text):
        return "(hidden)"
    return text if len(text) <= 80 else text[:77] + "..."


def _allowed_keys(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if _is_model(current) else None
        if field is None:
            return []
        current = _model_within(field.annotation)
    return sorted(_key(n, f) for n, f in current.model_fields.items()) if _is_model(current) else []


def _key(name: str, field: Any) -> str:
    return field.alias or name


def _model_within(annotation: Any) -> Any:
    if _is_model(annotation):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_within(argument)
        if found is not None:
            return found
    return None


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
