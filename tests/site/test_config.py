from pathlib import Path

import pytest
from django.conf import settings

from aicleaner_site.config import ConfigError, PerformanceOptimization, load_config, parse_config, unused_keys


def test_the_file_of_the_repository_holds_the_defaults_and_only_keys_that_act() -> None:
    config = load_config(settings.BASE_DIR / "config.yaml")
    assert config == PerformanceOptimization()
    assert unused_keys(config) == []


def test_no_file_and_an_empty_file_mean_defaults(tmp_path: Path) -> None:
    assert load_config(tmp_path / "none.yaml") == PerformanceOptimization()
    assert parse_config("") == PerformanceOptimization()
    assert parse_config("performance_optimization:") == PerformanceOptimization()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "performance_optimization: {monitoring: {metrics_retention_hours: 0}}",
            "monitoring.metrics_retention_hours",
        ),
        (
            "performance_optimization: {monitoring: {metric_retention: 5}}",
            "monitoring.metric_retention is not a known key",
        ),
        ("performance_optimization: {quantization: {default_level: int3}}", "quantization.default_level"),
        (
            "performance_optimization: {quantization: {levels: [int8]}}",
            "default_level 'dynamic' is not one of levels",
        ),
        ("performance_optimization: {monitoring: 7}", "performance_optimization.monitoring"),
        ("performance: {}", "unknown key 'performance'"),
        ("- a", "must be a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_an_error_names_the_key(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml") as error:
        parse_config(text)
    assert named in str(error.value)


def test_every_problem_of_a_file_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config("performance_optimization: {monitoring: {enabled: 7, metrics_retention_hours: no}}")
    assert len(str(error.value).splitlines()) == 2


def test_keys_that_nothing_acts_on_are_named() -> None:
    config = parse_config(
        "performance_optimization: {advanced: {prompt_optimization: true}, monitoring: {metrics_retention_hours: 9}}"
    )
    assert unused_keys(config) == ["performance_optimization.advanced.prompt_optimization"]
