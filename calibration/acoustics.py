"""How long sound takes from the arc to a microphone: a delay that no clock can see."""

import math

__all__ = ["sound_delay_ns", "speed_of_sound_m_s"]


def speed_of_sound_m_s(air_c: float) -> float:
    """In dry air of `air_c` °C, as an ideal gas: 331.3 m/s at 0 °C, 343.2 at 20 °C; humidity adds at most 0.4 %."""
    return 331.3 * math.sqrt(1 + air_c / 273.15)


def sound_delay_ns(distance_m: float, air_c: float = 20.0) -> int:
    """Time over `distance_m` metres of air, ns: 2.9 ms a metre."""
    return round(distance_m / speed_of_sound_m_s(air_c) * 1e9)
