from django.urls import path

from inference.prompt_sets import views

urlpatterns = [
    path("prompts/", views.prompt_list, name="prompt-sets"),
    path("prompts/<str:name>/", views.prompt_page, name="prompt-set"),
    path("prompts/<str:name>/delete/", views.delete, name="prompt-set-delete"),
]
