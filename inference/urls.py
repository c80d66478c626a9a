from django.urls import path

from inference import views

urlpatterns = [
    path("prompt/", views.prompt, name="prompt"),
    path("prompt/models/", views.prompt_models, name="prompt-models"),
]
