from django.urls import include, path

from inference import views

urlpatterns = [
    path("models/", include("inference.catalogue.urls")),
    path("prompt/", views.prompt, name="prompt"),
    path("prompt/models/", views.prompt_models, name="prompt-models"),
]
