"""What a sensor out in the open would measure at a moment; pure functions with their own tests.

Times are epoch seconds. `phase`, between 0 and 1, sets sensors apart from one another.
`noise` is a standard normal deviate, of which no more than ±4 counts.
"""

import enum
import math

DAY_SECONDS = 86_400.0
GAP_PERIOD_SECONDS = 3_600.0
GAP_SECONDS = 45.0
FAULT_PERIOD_SECONDS = 240.0
BATTERY_PERIOD_SECONDS = 30 * DAY_SECONDS

GREATEST_DRIFT = 18.0
_MOST_NOISE = 4.0

# Shares of the fault's period after which the failing sensor drifts, sticks and is mended.
_DRIFTS_FROM, _STICKS_FROM, _MENDED_FROM = 0.25, 0.6, 0.9


class SensorCondition(enum.StrEnum):
    """How a failing sensor does at the moment."""

    HEALTHY = "healthy"
    DRIFTING = "drifting"
    STUCK = "stuck"


def daily(seconds: float, phase: float) -> float:
    """Return the day's course between -1 and 1, lowest before dawn of the phase's zone."""
    return math.sin(2 * math.pi * (seconds / DAY_SECONDS + phase))


def wave(seconds: float, period_days: float, phase: float) -> float:
    """Return a slow wave between -1 and 1: the weather, of no fixed season."""
    return math.sin(2 * math.pi * (seconds / (period_days * DAY_SECONDS) + phase))


def temperature(seconds: float, phase: float, noise: float) -> float:
    """Return degrees Celsius: a daily cycle on passing weather."""
    course = 16 + 6 * phase + 6.5 * daily(seconds, phase) + 2.5 * wave(seconds, 5.3, phase)
    return round(course + 0.12 * bounded(noise), 2)


def humidity(seconds: float, phase: float, noise: float) -> float:
    """Return relative humidity in percent, low when it is warm."""
    course = 62 - 17 * daily(seconds, phase) + 9 * wave(seconds, 3.1, phase)
    return round(min(100.0, max(5.0, course + 0.6 * bounded(noise))), 1)


def pressure(seconds: float, phase: float, noise: float) -> float:
    """Return hectopascals: highs and lows that pass in days, and the tide of half a day."""
    course = 1013.25 + 9 * wave(seconds, 4.7, phase) + 3 * wave(seconds, 1.9, phase)
    return round(course + 0.6 * daily(2 * seconds, phase) + 0.06 * bounded(noise), 2)


def battery(seconds: float, phase: float, noise: float) -> float:
    """Return percent: down over a month, less by day under the sun, then a fresh one."""
    spent = (seconds / BATTERY_PERIOD_SECONDS + phase) % 1.0
    course = 98 - 76 * spent + 1.2 * daily(seconds, phase)
    return round(min(100.0, max(0.0, course + 0.05 * bounded(noise))), 1)


def bounded(noise: float) -> float:
    """Return the noise, cut off where a normal deviate would not be believed."""
    return min(_MOST_NOISE, max(-_MOST_NOISE, noise))


def is_silent(seconds: float, phase: float) -> bool:
    """Return whether the sensor is out of reach, as it is for a short while each hour."""
    return (seconds + phase * GAP_PERIOD_SECONDS) % GAP_PERIOD_SECONDS < GAP_SECONDS


def condition(seconds: float) -> SensorCondition:
    """Return how the failing sensor does this long after it was switched on."""
    share = (seconds / FAULT_PERIOD_SECONDS) % 1.0
    if share < _DRIFTS_FROM or share >= _MENDED_FROM:
        return SensorCondition.HEALTHY
    return SensorCondition.DRIFTING if share < _STICKS_FROM else SensorCondition.STUCK


def drift(seconds: float) -> float:
    """Return by how much the failing sensor's temperature is off; stuck, it stays there."""
    share = (seconds / FAULT_PERIOD_SECONDS) % 1.0
    if share < _DRIFTS_FROM or share >= _MENDED_FROM:
        return 0.0
    return GREATEST_DRIFT * min(1.0, (share - _DRIFTS_FROM) / (_STICKS_FROM - _DRIFTS_FROM))
