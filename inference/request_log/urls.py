from django.urls import path

from inference.request_log import views

urlpatterns = [
    path("", views.requests, name="requests"),
    path("newer/", views.newer, name="requests-newer"),
    path("figures/", views.figures_page, name="request-figures"),
    path("reloads/", views.reloads_page, name="request-reloads"),
    path("contexts/", views.contexts_page, name="request-contexts"),
    path("contexts/memory/", views.context_memory, name="request-context-memory"),
    path("export.csv", views.as_csv, name="requests-csv"),
    path("export.json", views.as_json, name="requests-json"),
    path("<str:request_id>/", views.request_page, name="request"),
]
