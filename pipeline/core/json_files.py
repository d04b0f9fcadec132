"""Reading of JSON files whose content has a schema."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pneumoseg.pipeline.core.errors import JobError

Content = TypeVar("Content", bound=BaseModel)


def read_validated_json(path: Path, schema: type[Content], *, advice: str) -> Content:
    """Read a JSON file and check its content.

    Args:
        path: Path of the file, which may come from anywhere.
        schema: Schema of the content. If it has a `format_version`, the file needs the same one.
        advice: What helps where the file cannot be used; the end of the error.

    Raises: JobError: If the file cannot be read, is not JSON, is of another format version, or does not fit.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except (ValueError, RecursionError) as error:  # the latter for lists in lists in lists
        raise JobError(f"{path}: is not JSON ({error}); {advice}") from None
    if (field := schema.model_fields.get("format_version")) is not None:
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != field.default:
            raise JobError(
                f"{path}: format_version is {version!r}; this release reads {field.default}; {advice}"
            )
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise JobError(f"{path}: {where}: {first['msg']}; {advice}") from None
