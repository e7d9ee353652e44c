"""JSON as it goes over the wire: ASCII alone, so that no control character of a model stands bare in a client's terminal."""

import json
from typing import Any

from starlette.responses import JSONResponse


def line(value: Any) -> bytes:
    """One JSON value on one line, without its end."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


class Json(JSONResponse):
    """A whole answer."""

    def render(self, content: Any) -> bytes:
        """As `line`."""
        return line(content)
