"""The child process that runs a model's regular expression: JSON in by stdin, JSON out. It imports nothing of the project.

In: {"pattern", "texts", "most"}; out: {"hits": [[index of the text, line from 1, line], ...]} or {"error"}. It has 2 s of
processor time and 512 MB; who started it ends it after its own time.
"""

import contextlib
import json
import re
import sys

MEMORY_BYTES = 512_000_000
SECONDS = 2


def main() -> None:
    """Read the question, write the answer."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # a system without rlimits: the parent's time limit remains
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    asked = json.load(sys.stdin)
    try:
        pattern = re.compile(asked["pattern"], re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        answer: dict[str, object] = {"error": str(error) or type(error).__name__}
    else:
        answer = {"hits": _hits(pattern, asked["texts"], asked["most"])}
    json.dump(answer, sys.stdout)


def _hits(pattern: "re.Pattern[str]", texts: list[str], most: int) -> list[tuple[int, int, str]]:
    hits = []
    for index, text in enumerate(texts):
        for number, line in enumerate(text.split("\n"), 1):
            if pattern.search(line):
                hits.append((index, number, line[:1000]))
                if len(hits) >= most:
                    return hits
    return hits


if __name__ == "__main__":
    main()
