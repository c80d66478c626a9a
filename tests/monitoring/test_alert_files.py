"""Files that YAML would take, and that say something else than their writer means, or more than a machine can hold."""

import pytest
from django.utils import timezone

from monitoring.alerts import transfer
from monitoring.alerts.transfer import AlertsFileError
from monitoring.models import Rule

pytestmark = pytest.mark.django_db
LAUGHS = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


def problems(text: str) -> list[str]:
    with pytest.raises(AlertsFileError) as error:
        transfer.read(text, who="sam", now=timezone.now())
    return error.value.problems


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "rules:\n- name: A\n  series: cpu_percent\n  fire_at: 90\n  clear_at: 80\n  fire_at: 95\n",
            "line 6: fire_at: it stands twice",
        ),
        ("rules: []\nsilences: []\nrules: []\n", "line 3: rules: it stands twice"),
        (
            "policies:\n- name: Ops\n  steps:\n  - {after_min: 0, channels: [], after_min: 5}\n",
            "line 4: after_min: it stands twice",
        ),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(text: str, said: str) -> None:
    assert said in problems(text)[0]
    assert not Rule.objects.filter(name="A").exists()


@pytest.mark.parametrize(
    "text",
    [
        f"rules:\n- name: A\n  a0: &a0 [x, x]\n{LAUGHS}  severity: *a11\n",
        "rules:\n- &a {name: A, severity: [*a]}\n",
    ],
)
def test_aliases_that_stand_for_more_than_a_file_may_hold_are_refused(text: str) -> None:
    assert "aliases" in problems(text)[0]


def test_aliases_and_merged_mappings_are_fine_where_they_save_writing() -> None:
    text = (
        "rules:\n- &usual {name: A, series: cpu_percent, fire_at: 90, clear_at: 80}\n"
        "- {<<: *usual, name: B, fire_at: 95}\n"
    )
    found = {each.name: each for each in transfer.read(text, who="sam", now=timezone.now())}
    assert set(found) == {"A", "B"}
    assert ("fire_at", "", "95.0") in found["B"].changes
