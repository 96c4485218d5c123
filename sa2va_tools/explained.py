"""Pydantic models whose constructor raises our own error instead of pydantic's ValidationError."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from sa2va_tools.errors import RequestError

_ModelType: Any = type(BaseModel)


class ExplainedModel(_ModelType):  # type: ignore[misc]  # pydantic does not publish its metaclass
    """The metaclass of such models. Models that contain them are validated as usual."""

    def __call__(self, *values: Any, **fields: Any) -> Any:
        try:
            return super().__call__(*values, **fields)
        except ValidationError as error:
            raise _explain(self, error) from error


def _explain(model: Any, error: ValidationError) -> RequestError:
    """What is wrong with the first wrong field, and which fields there are."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    problem = str(first["msg"]).removeprefix("Value error, ")
    where = f"{field}: " if field else ""
    return RequestError(
        f"{model.__name__} is not valid: {where}{problem}.",
        hint=f"Its fields are {', '.join(model.model_fields)}.",
    )
