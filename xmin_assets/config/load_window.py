"""The hours in which loads by chunks may read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

_WINDOW = re.compile(r"(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)(?:\s+(\S+))?")


@dataclass(frozen=True)
class Hours:
    """A part of every day, from `start` to before `end`, by the clock of a place; over midnight where end is first."""

    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read hours such as ``22:00-06:00 Europe/Berlin``; without a place they are UTC.

        Raises:
            ValueError: they are none.
        """
        match = _WINDOW.fullmatch(text.strip())
        try:
            if match is None:
                raise ValueError
            start, end = (time(int(match[i]) % 24, int(match[i + 1])) for i in (1, 3))
            if int(match[1]) > 24 or int(match[3]) > 24:
                raise ValueError
        except ValueError:
            raise ValueError("are no hours; write some such as 22:00-06:00 Europe/Berlin") from None
        if start == end:
            raise ValueError("begin when they end; leave the setting out for all day")
        try:
            zone = ZoneInfo(match[5] or "UTC")
        except (ValueError, OSError, KeyError):
            raise ValueError(f"are in {match[5]}, which is no time zone; write one such as Europe/Berlin") from None
        return cls(start, end, zone)

    def contain(self, moment: datetime) -> bool:
        """Return whether a moment, with its time zone, is in these hours."""
        now = moment.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def next(self, clock: time, moment: datetime) -> datetime:
        """Return when the clock of the place next shows this time after a moment, in UTC."""
        day = moment.astimezone(self.zone).date() - timedelta(days=1)
        while True:
            at = datetime.combine(day, clock, self.zone).astimezone(timezone.utc)
            if at > moment:
                return at
            day += timedelta(days=1)


@dataclass(frozen=True)
class LoadWindow:
    """When loads may read: in some hours of the day, or outside of others."""

    hours: Hours
    inside: bool
    """Whether loads read in the hours, or outside of them."""

    def is_open(self, moment: datetime) -> bool:
        """Return whether loads may read at a moment."""
        return self.hours.contain(moment) is self.inside

    def opens_at(self, moment: datetime) -> datetime:
        """Return when loads may read again, after a moment at which they may not, in UTC."""
        return self.hours.next(self.hours.start if self.inside else self.hours.end, moment)
