from django.urls import path, register_converter

from inference.catalogue import views


class EngineName:
    """Other pages below /models/ come before: an engine can't have the name of one (inference/engines/forms.py)."""

    regex = "[a-z0-9][a-z0-9-]*"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(EngineName, "engine")

urlpatterns = [
    path("", views.model_list, name="models"),
    path("log/", views.model_log, name="model-log"),
    path("pull/", views.pull, name="model-pull"),
    path("pull/<int:pull_id>/cancel/", views.cancel_pull, name="model-pull-cancel"),
    path("load/", views.load, name="model-load"),
    path("unload/", views.unload, name="model-unload"),
    path("keep/", views.keep, name="model-keep"),
    path("copy/", views.copy, name="model-copy"),
    path("delete/", views.delete, name="model-delete"),
    path("<engine:engine_name>/<path:name>/", views.model_page, name="model"),
]
