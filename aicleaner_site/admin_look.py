"""UNFOLD: the admin in the product's dress. Colours are those of static/css/tokens.css, in unfold's scales."""

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy


def _list_of(title: str, icon: str, name: str) -> dict[str, Any]:
    """The list page of model `name` (`app_model`), shown to who may view it."""
    app, _, model = name.rpartition("_")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{name}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{model}"),
    }


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "AICleaner Performance",
    "SITE_HEADER": "AICleaner",
    "SITE_URL": reverse_lazy("live"),
    "SITE_ICON": lambda request: static("icon.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("icon.svg")},
    ],
    "STYLES": [lambda request: static("css/admin.css")],
    "SHOW_HISTORY": True,
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "8px",
    "COLORS": {
        "base": {
            "50": "#f4f6f8",
            "100": "#f0f3f6",
            "200": "#dde3ea",
            "300": "#c6d0da",
            "400": "#8b98a7",
            "500": "#5d6b7a",
            "600": "#44505d",
            "700": "#38434f",
            "800": "#28313c",
            "900": "#161b22",
            "950": "#0e1116",
        },
        "primary": {
            "50": "#eef6ff",
            "100": "#d9eaff",
            "200": "#bbdaff",
            "300": "#8cc3ff",
            "400": "#5aa9ff",
            "500": "#5aa9ff",
            "600": "#1668c7",
            "700": "#1456a6",
            "800": "#164a87",
            "900": "#17406f",
            "950": "#112848",
        },
        "font": {
            "subtle-light": "#5d6b7a",
            "subtle-dark": "#8b98a7",
            "default-light": "#17202a",
            "default-dark": "#e6edf3",
            "important-light": "#17202a",
            "important-dark": "#e6edf3",
        },
    },
    "SIDEBAR": {
        "show_all_applications": True,  # what has no place of its own below
        "navigation": [
            {
                "items": [
                    {
                        "title": "Back to the live page",
                        "icon": "arrow_back",
                        "link": reverse_lazy("live"),
                        "active": lambda request: False,
                    }
                ]
            },
            {
                "title": "Settings",
                "items": [
                    _list_of("Profiles", "tune", "tuning_profile"),
                    {
                        "title": "Alert rules",
                        "icon": "notifications",
                        "link": reverse_lazy("alert-rules"),
                        "active": lambda request: False,
                    },
                ],
            },
            {
                "title": "Records",
                "items": [
                    _list_of("Requests", "swap_vert", "inference_inferencerequest"),
                    _list_of("Events", "event_note", "monitoring_event"),
                    _list_of("Deliveries", "outgoing_mail", "monitoring_delivery"),
                    _list_of("Benchmark runs", "speed", "benchmarks_run"),
                ],
            },
            {
                "title": "Accounts",
                "items": [
                    _list_of("Users", "person", "auth_user"),
                    _list_of("Groups", "group", "auth_group"),
                ],
            },
            {
                "title": "Schedules",
                "items": [
                    _list_of("Periodic tasks", "schedule", "django_celery_beat_periodictask"),
                    _list_of("Intervals", "timer", "django_celery_beat_intervalschedule"),
                    _list_of("Crontabs", "calendar_month", "django_celery_beat_crontabschedule"),
                ],
            },
        ],
    },
}
