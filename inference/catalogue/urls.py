from django.urls import path, register_converter

from inference.catalogue import views


class EngineKind:
    """Keeps the other pages below /models/ apart from those of single models."""

    regex = "ollama|embedded"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(EngineKind, "engine_kind")

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
    path("<engine_kind:kind>/<path:name>/", views.model_page, name="model"),
]
