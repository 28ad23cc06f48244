"""The names of models, and the settings that a model takes: the options of ``BuiltInAgent``.

The names are those of the reference's class, as Python writes them; a page may override those that
the application allows, by the names that JavaScript gives them (``forwardedProps``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic_ai.models import Model, infer_model
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class

_PROVIDERS: Final = {
    # "openai" means chat completions, because every server that is compatible with OpenAI has them.
    "openai": "openai-chat",
    "gemini": "google",
    "google-gemini": "google",
    "vertex": "google-cloud",
}
_EXAMPLE: Final = "'openai/gpt-4o-mini', 'anthropic/claude-sonnet-4-5' or 'google/gemini-2.5-flash'"


def model_of(model: Model | str, api_key: str | None = None) -> Model:
    """The model that ``model`` names.

    :param model: "provider/model" or "provider:model", or a model of Pydantic AI.
    :param api_key: the key; None for that of the environment.
    :raises ValueError: if there is no such model, it has no key, or a package for it is missing.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, str):
        raise TypeError(f"a model is a str or a model of Pydantic AI, not {type(model).__name__}")
    parts = re.fullmatch(r"\s*([\w.-]+)\s*[/:]\s*(\S.*?)\s*", model)
    if parts is None:
        raise ValueError(f"the model {model!r} is none: give {_EXAMPLE}")
    provider, name = parts[1].lower(), parts[2]

    def make(name: str) -> Provider[Any]:
        if api_key is None:
            return infer_provider(name)
        kind: Callable[..., Provider[Any]] = infer_provider_class(name)
        return kind(api_key=api_key)

    try:
        return infer_model(f"{_PROVIDERS.get(provider, provider)}:{name}", make)
    except Exception as error:
        # Exceptions of any class may come, because the packages of providers have classes of their
        # own, for example for a missing key.
        raise ValueError(f"the model {model!r} cannot be used: {error}") from error


def _number(value: Any) -> bool:
    # The comparison is false for NaN, and exact for an int that no float can hold.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_text, value))


def _choice(value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("type") == "tool" and _text(value.get("toolName"))
    return value in ("auto", "none", "required")


OPTIONS: Final[dict[str, tuple[str, str, Callable[[Any], bool]]]] = {
    "model": ("model", "", _text),
    "prompt": ("prompt", "", _text),
    "tool_choice": ("toolChoice", "tool_choice", _choice),
    "max_output_tokens": ("maxOutputTokens", "max_tokens", _whole),
    "temperature": ("temperature", "temperature", _number),
    "top_p": ("topP", "top_p", _number),
    "top_k": ("topK", "top_k", _whole),
    "presence_penalty": ("presencePenalty", "presence_penalty", _number),
    "frequency_penalty": ("frequencyPenalty", "frequency_penalty", _number),
    "stop_sequences": ("stopSequences", "stop_sequences", _texts),
    "seed": ("seed", "seed", _whole),
    "max_retries": ("maxRetries", "max_retries", _whole),
}
"""The options by our name: the page's name, Pydantic AI's ("" for no setting), and the check of a
value."""


def allowed(names: Iterable[str]) -> frozenset[str]:
    """The options that a page may override, by our names.

    :param names: our names, or the page's.
    :raises ValueError: for a name that is neither.
    """
    ours = {theirs: name for name, (theirs, _, _) in OPTIONS.items()} | {n: n for n in OPTIONS}
    if isinstance(names, str):
        raise ValueError(f"overridable_properties are names in a list, not {names!r}")
    taken = list(names)
    if unknown := [name for name in taken if name not in ours]:
        raise ValueError(f"{unknown[0]!r} is no overridable property: expected {sorted(OPTIONS)}")
    return frozenset(ours[name] for name in taken)


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that an application gives, without those that are None.

    :raises ValueError: for a value of the wrong type.
    """
    for name, value in given.items():
        if value is not None and not OPTIONS[name][2](value):
            raise ValueError(f"{name} is not {value!r}")
    return {name: value for name, value in given.items() if value is not None}


def overrides(forwarded: Any, names: frozenset[str]) -> dict[str, Any]:
    """Return the options that a page overrides; values of a wrong type are ignored.

    :param forwarded: ``forwardedProps``.
    :param names: the options that the page may override.
    """
    if not isinstance(forwarded, Mapping):
        return {}
    found = {name: forwarded.get(OPTIONS[name][0]) for name in names}
    return {
        name: value
        for name, value in found.items()
        if value is not None and OPTIONS[name][2](value)
    }


def settings_of(options: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The settings for each step of a run, for Pydantic AI.

    A tool that the model must call is required in the first step only, because a run in which every
    step must call a tool would never end.

    :param options: the options, and any setting of Pydantic AI.
    """
    settings = {
        OPTIONS[name][1] if name in OPTIONS else name: value for name, value in options.items()
    }
    settings.pop("", None)
    choice = settings.get("tool_choice")
    if isinstance(choice, Mapping):
        settings["tool_choice"] = [choice["toolName"]]
    free = settings if choice in ("auto", "none") else {**settings, "tool_choice": "auto"}
    if choice is None:
        free = settings
    return lambda context: settings if context.run_step <= 1 else free
