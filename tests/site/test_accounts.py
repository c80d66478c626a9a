from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from aicleaner_site import accounts
from aicleaner_site.models import OneTimeLogin

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def admin() -> object:
    return get_user_model().objects.get(username="admin")


def test_the_first_start_makes_a_password_and_later_ones_do_not() -> None:
    password = accounts.ensure_admin(None)
    assert password is not None
    assert admin().check_password(password)  # type: ignore[attr-defined]
    assert accounts.ensure_admin(None) is None
    assert admin().check_password(password)  # type: ignore[attr-defined]


def test_a_given_password_is_set_and_never_told() -> None:
    assert accounts.ensure_admin("first-password") is None
    assert accounts.ensure_admin("second-password") is None
    assert admin().check_password("second-password")  # type: ignore[attr-defined]


def test_no_admin_is_added_beside_another_superuser() -> None:
    get_user_model().objects.create_superuser(username="root", password="x")
    assert accounts.ensure_admin(None) is None
    assert not get_user_model().objects.filter(username="admin").exists()


def test_a_one_time_login_works_once_and_not_after_its_time() -> None:
    accounts.ensure_admin("pw")
    user = get_user_model().objects.get()
    token = accounts.create_one_time_login(user, NOW)
    assert accounts.use_one_time_login(token, NOW) == user
    assert accounts.use_one_time_login(token, NOW) is None

    late = accounts.create_one_time_login(user, NOW)
    assert (
        accounts.use_one_time_login(late, NOW + accounts.ONE_TIME_LOGIN_LIFE + timedelta(seconds=1)) is None
    )


def test_a_new_link_ends_the_one_before_and_the_token_is_not_stored() -> None:
    accounts.ensure_admin("pw")
    user = get_user_model().objects.get()
    first = accounts.create_one_time_login(user, NOW)
    second = accounts.create_one_time_login(user, NOW)
    assert accounts.use_one_time_login(first, NOW) is None
    assert second not in str(list(OneTimeLogin.objects.values()))


def test_a_disabled_user_does_not_get_in_by_a_link() -> None:
    accounts.ensure_admin("pw")
    user = get_user_model().objects.get()
    token = accounts.create_one_time_login(user, NOW)
    get_user_model().objects.update(is_active=False)
    assert accounts.use_one_time_login(token, NOW) is None


def test_the_link_opens_a_session_and_a_used_one_says_so(client: Client) -> None:
    accounts.ensure_admin("pw")
    token = accounts.create_one_time_login(get_user_model().objects.get(), datetime.now(UTC))
    answer = client.get(f"/login/once/{token}/")
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert "_auth_user_id" in client.session
    assert Client().get(f"/login/once/{token}/").status_code == 410
