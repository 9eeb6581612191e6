"""Shifts of sound: of waveforms in [-1, 1], and of log-mel spectrograms in natural logarithms of energy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from letsam.validation.drift.draws import Draws
from letsam.validation.drift.known_shifts import table_of
from letsam.validation.drift.shift import Reference, Shift, by_severity

_SIGNAL_TO_NOISE = (25.0, 18.0, 12.0, 6.0, 0.0)  # dB
_GAINS = (3.0, 6.0, 10.0, 15.0, 20.0)  # dB
_HIGHEST = (0.7, 0.5, 0.35, 0.22, 0.12)  # of the frequencies
_LOWEST = (0.01, 0.02, 0.04, 0.06, 0.1)
TINY = 1e-10


def wave_noise(waves: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """White noise, relative to the power of each recording."""
    power = _per_sample(waves.square(), waves)
    return waves + (power * _energy(-by_severity(severity, *_SIGNAL_TO_NOISE))).sqrt() * draws.normal(*waves.shape[1:])


def wave_gain(waves: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Louder or quieter; what is too loud is clipped."""
    change = _decibels(waves, severity, draws)
    return (waves * 10 ** (change / 20)).clamp(-1, 1)


def wave_band(waves: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Low and high frequencies are missing, as over a telephone."""
    spectrum = torch.fft.rfft(waves)
    share = torch.linspace(0, 1, spectrum.shape[-1], device=waves.device)
    kept = (share >= by_severity(severity, *_LOWEST)) & (share <= by_severity(severity, *_HIGHEST))
    return torch.fft.irfft(spectrum * kept, n=waves.shape[-1])


def mel_noise(sounds: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Energy of noise, added to each band and time, relative to the energy of each recording."""
    energy = sounds.exp()
    level = _per_sample(energy, sounds) * _energy(-by_severity(severity, *_SIGNAL_TO_NOISE))
    # The energy of white noise in a band is exponentially distributed.
    return (energy + level * -(1 - draws.uniform(*sounds.shape[1:])).log()).clamp(min=TINY).log()


def mel_gain(sounds: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Louder or quieter."""
    return sounds + _decibels(sounds, severity, draws) * math.log(10) / 10


def mel_band(sounds: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Low and high bands are silent: as quiet as the quietest place of the recording."""
    bands = sounds.shape[-2]
    share = torch.linspace(0, 1, bands, device=sounds.device)[:, None]
    # Mel bands are denser at low frequencies: half of them lie in the lower fifth.
    kept = (share >= by_severity(severity, *_LOWEST) * 3) & (share <= by_severity(severity, *_HIGHEST) ** 0.5)
    quiet = sounds.flatten(1).amin(dim=1).reshape(-1, *[1] * (sounds.ndim - 1))
    return torch.where(kept, sounds, quiet)


def _decibels(sounds: Tensor, severity: int, draws: Draws) -> Tensor:
    change = draws.signs(1) * draws.uniform(1, low=0.5) * by_severity(severity, *_GAINS)
    return change.reshape(-1, *[1] * (sounds.ndim - 1))


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1).reshape(-1, *[1] * (like.ndim - 1))


def _energy(decibels: float) -> float:
    return 10 ** (decibels / 10)


WAVE_SHIFTS = table_of(
    [
        Shift("noise", "audio", "white noise, signal to noise 25 to 0 dB", wave_noise),
        Shift("gain", "audio", "louder or quieter by up to 3 to 20 dB, clipped", wave_gain),
        Shift("band", "audio", "low and high frequencies are missing", wave_band),
    ]
)
LOG_MEL_SHIFTS = table_of(
    [
        Shift("noise", "log-mel", "energy of noise, signal to noise 25 to 0 dB", mel_noise),
        Shift("gain", "log-mel", "louder or quieter by up to 3 to 20 dB", mel_gain),
        Shift("band", "log-mel", "low and high bands are silent", mel_band),
    ]
)
