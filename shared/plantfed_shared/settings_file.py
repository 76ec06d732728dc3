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
    return parse_settings(_text_of(path), model, str(path))


def read_document(path: Path) -> dict[str, Any]:
    """Read a TOML file without checking what is in it.

    Raises:
        ConfigError: the file is missing or is not TOML.
    """
    return _document(_text_of(path), str(path))


def _text_of(path: Path) -> str:
    try:
        # Windows' editor begins a file with a byte order mark
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), hint="Give the path of one") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"line {line} is not UTF-8", where=str(path), hint="Save it as UTF-8"
        ) from None


def parse_settings(text: str, model: type[Model], where: str) -> Model:
    """Read TOML into a settings model.

    Raises:
        ConfigError: as of :func:`read_settings`.
    """
    return check_settings(_document(text, where), model, where)


def _document(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    # integers of thousands of digits are no TOMLDecodeError, nor are thousands of brackets
    except ValueError as error:
        raise ConfigError(f"is not TOML: {error}", where=where) from None
    except RecursionError:
        raise ConfigError("is not TOML: too many brackets in each other", where=where) from None


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
    path, section = _place(model, first["loc"])
    key = ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        fields = section.model_fields if section is not None else {}
        allowed = ", ".join(sorted(_key(n, f) for n, f in fields.items()))
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


def _place(
    model: type[BaseModel], path: Sequence[int | str]
) -> tuple[list[int | str], type[BaseModel] | None]:
    """A path of pydantic as the reader knows it, and the section its last key stands in.

    Where a section has several forms, pydantic puts the name of one of them into the path.
    """
    kept: list[int | str] = []
    forms: list[type[BaseModel]] = [model]
    section: type[BaseModel] | None = None
    for part in path:
        chosen = [form for form in forms if len(forms) > 1 and _kind(form) == part]
        if chosen:
            forms = chosen
            continue
        kept.append(part)
        if isinstance(part, str):
            section = forms[0] if forms else None
            fields = [form.model_fields[part] for form in forms if part in form.model_fields]
            forms = [form for field in fields for form in _models_within(field.annotation)]
    return kept, section


def _kind(form: type[BaseModel]) -> Any:
    field = form.model_fields.get("kind")
    return None if field is None else field.default


def _key(name: str, field: Any) -> str:
    return field.alias or name


def _models_within(annotation: Any) -> list[type[BaseModel]]:
    if _is_model(annotation):
        return [annotation]
    within = getattr(annotation, "__args__", ())
    return [form for argument in within for form in _models_within(argument)]


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
