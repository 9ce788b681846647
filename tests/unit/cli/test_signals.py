"""The simulated signals: pure, bounded, believable."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.simulator import signals
from heliograph.simulator.signals import SensorCondition

SECONDS = st.floats(1e9, 4e9)
PHASE = st.floats(0, 1)
NOISE = st.floats(allow_nan=False)
BOUNDS = {
    signals.temperature: (6, 32),
    signals.humidity: (5, 100),
    signals.pressure: (1_000, 1_027),
    signals.battery: (0, 100),
}
# The most that each moves in a minute without noise.
MOST_CHANGE = {
    signals.temperature: 0.1,
    signals.humidity: 0.3,
    signals.pressure: 0.05,
    signals.battery: 0.2,
}


@pytest.mark.parametrize("signal", BOUNDS, ids=lambda signal: signal.__name__)
class TestEachSignal:
    @given(seconds=SECONDS, phase=PHASE, noise=NOISE)
    def test_stays_within_what_is_believed(self, signal, seconds, phase, noise):
        low, high = BOUNDS[signal]
        assert low <= signal(seconds, phase, noise) <= high

    @given(seconds=SECONDS, phase=PHASE, noise=NOISE)
    def test_depends_on_its_arguments_only(self, signal, seconds, phase, noise):
        assert signal(seconds, phase, noise) == signal(seconds, phase, noise)

    @given(seconds=SECONDS, phase=PHASE)
    def test_moves_slowly(self, signal, seconds, phase):
        before, after = signal(seconds, phase, 0), signal(seconds + 60, phase, 0)
        fresh_battery = signal is signals.battery and after > before + 50
        assert fresh_battery or abs(after - before) <= MOST_CHANGE[signal]

    @given(seconds=SECONDS, phase=PHASE)
    def test_is_noisy(self, signal, seconds, phase):
        values = {signal(seconds, phase, noise / 2) for noise in range(-8, 9)}
        clamped = signal in (signals.humidity, signals.battery)
        assert len(values) > 1 or (clamped and values <= {0.0, 5.0, 100.0})


@given(seconds=SECONDS, phase=PHASE)
def test_a_day_repeats(seconds, phase):
    later = signals.daily(seconds + signals.DAY_SECONDS, phase)
    assert math.isclose(signals.daily(seconds, phase), later, abs_tol=1e-4)


@given(phase=PHASE)
def test_it_is_warm_when_the_air_is_dry(phase):
    hours = [1.7e9 + hour * 3_600 for hour in range(24)]
    warm = [signals.temperature(hour, phase, 0) for hour in hours]
    humid = [signals.humidity(hour, phase, 0) for hour in hours]
    assert statistics.correlation(warm, humid) < -0.8
    assert max(warm) - min(warm) > 8


@given(first=PHASE, second=PHASE, seconds=SECONDS)
def test_phases_set_sensors_apart(first, second, seconds):
    if 0.1 < abs(first - second) < 0.4:
        hours = [seconds + hour * 3_600 for hour in range(24)]
        assert any(
            abs(signals.daily(hour, first) - signals.daily(hour, second)) > 0.3 for hour in hours
        )


@given(phase=PHASE, start=SECONDS)
def test_a_sensor_is_silent_once_an_hour(phase, start):
    start = float(round(start))
    silent = sum(signals.is_silent(start + second, phase) for second in range(3_600))
    assert abs(silent - signals.GAP_SECONDS) <= 1


def test_the_failing_sensor_drifts_then_sticks_then_recovers():
    moments = range(int(signals.FAULT_PERIOD_SECONDS))
    conditions = [signals.condition(moment) for moment in moments]
    changes = [
        current
        for previous, current in zip([None, *conditions], conditions, strict=False)
        if current is not previous
    ]
    assert changes == [
        SensorCondition.HEALTHY,
        SensorCondition.DRIFTING,
        SensorCondition.STUCK,
        SensorCondition.HEALTHY,
    ]


@given(seconds=st.floats(0, 1e6))
def test_the_drift_fits_the_condition(seconds):
    drift = signals.drift(seconds)
    match signals.condition(seconds):
        case SensorCondition.HEALTHY:
            assert drift == 0
        case SensorCondition.DRIFTING:
            assert 0 <= drift <= signals.GREATEST_DRIFT
        case SensorCondition.STUCK:
            assert drift == signals.GREATEST_DRIFT
