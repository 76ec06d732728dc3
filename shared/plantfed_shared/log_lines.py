"""What services write on standard error: a line per event, for people or as JSON."""

import json
import logging
import sys
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

from plantfed_shared.log_budget import LogBudget

LogFormat = Literal["human", "json"]
_EXTRAS = ("agent", "program", "exit_code")


class JsonLines(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and what else is known."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        time = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _EXTRAS:
            value = getattr(record, name, None)
            if value is not None:
                fields[name] = value
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class HumanLines(logging.Formatter):
    """Time, level, agent, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """With the agent it is about before it."""
        agent = getattr(record, "agent", None)
        if agent is not None:
            record.message = f"{agent}: {record.message}"
        return super().formatMessage(record)


class Seldom(logging.Filter):
    """Hushes what was said often enough, and counts it with the next line that is written."""

    def __init__(self) -> None:
        super().__init__()
        self._budget = LogBudget()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it; errors always."""
        if record.levelno >= logging.ERROR:
            return True
        text = record.getMessage()
        hushed = self._budget.admit(f"{getattr(record, 'agent', None)} {text}", monotonic())
        if hushed:
            record.msg, record.args = f"{text} ({hushed} more like this were not logged)", ()
        return hushed is not None


def log_to_stderr(*, verbose: bool, form: LogFormat = "human") -> None:
    """Begin to log.

    Args:
        verbose: more, and everything as often as it happens.
        form: for people, or for programs.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else HumanLines())
    if not verbose:
        handler.addFilter(Seldom())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO)


def logs_json() -> bool:
    """Whether :func:`log_to_stderr` was told to."""
    return any(isinstance(h.formatter, JsonLines) for h in logging.getLogger().handlers)
