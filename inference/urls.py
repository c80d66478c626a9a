from django.urls import include, path

from inference import views

urlpatterns = [
    path("cache/", include("inference.caching.urls")),
    path("engines/", include("inference.engines.urls")),
    path("keys/", include("inference.api_keys.urls")),
    path("models/", include("inference.jobs.urls")),
    path("models/", include("inference.archives.urls")),
    path("models/", include("inference.prompt_sets.urls")),
    path("models/", include("inference.proposals.urls")),
    path("models/", include("inference.catalogue.urls")),  # the last: names of engines stand there
    path("requests/", include("inference.request_log.urls")),
    path("prompt/", views.prompt, name="prompt"),
    path("prompt/models/", views.prompt_models, name="prompt-models"),
]
