"""Calibrating a classifier: temperature and bias, operating point, intervals."""

import numpy as np
import pytest
import torch

from dermaflux.training import calibration


def test_a_classifier_that_ranks_worse_than_chance_keeps_its_ranks():
    truth = torch.arange(150) % 2
    lead = torch.randn(150, generator=torch.Generator().manual_seed(0)) - 0.6 * truth
    logits = torch.stack([torch.zeros(150), lead], 1)
    temperature, bias = calibration.fit_temperature(logits, truth)
    assert temperature <= calibration.HIGHEST_TEMPERATURE
    told = (lead / temperature + bias).sigmoid()
    assert torch.equal(told.argsort(stable=True), lead.argsort(stable=True)) and len(set(told.tolist())) == 150


def test_temperature_and_bias_are_recovered():
    rng = np.random.default_rng(0)
    lead = rng.normal(0, 4, 40_000)
    truth = rng.random(40_000) < 1 / (1 + np.exp(-(lead / 2.5 - 1)))
    logits = torch.tensor(np.stack([np.zeros_like(lead), lead], 1), dtype=torch.float32)
    temperature, bias = calibration.fit_temperature(logits, torch.tensor(truth).long())
    assert float(temperature) == pytest.approx(2.5, rel=0.05)
    assert float(bias) == pytest.approx(-1, rel=0.08)


def test_operating_point_is_the_highest_threshold_that_finds_95_percent():
    scores = np.concatenate([np.linspace(0.01, 1, 100), np.linspace(0, 0.5, 300)])
    point = calibration.operating_point(np.arange(400) < 100, scores)
    assert point.sensitivity == 0.95
    assert point.threshold == pytest.approx(0.06, rel=1e-4)
    assert point.specificity == pytest.approx(0.12, abs=0.01)


def test_wilson_interval_is_the_textbook_one():
    low, high = calibration.wilson(np.arange(100) < 50)
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)


def test_auc_interval_surrounds_the_auc():
    rng = np.random.default_rng(1)
    malignant = np.arange(400) < 100
    low, high = calibration.auc_interval(malignant, rng.normal(malignant * 1.0, 1))
    assert low < 0.76 < high and 0.05 < high - low < 0.15
    assert calibration.auc_interval(malignant, malignant * 1.0) == (1.0, 1.0)
