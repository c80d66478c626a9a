from django.urls import path

from monitoring.history import views

urlpatterns = [
    path("", views.page, name="history"),
    path("data/", views.data, name="history-data"),
    path("speeds/", views.speeds, name="history-speeds"),
    path("export.csv", views.as_csv, name="history-csv"),
    path("export.json", views.as_json, name="history-json"),
]
