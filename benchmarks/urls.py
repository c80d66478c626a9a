from django.urls import path

from benchmarks import views

urlpatterns = [
    path("", views.run_list, name="benchmarks"),
    path("new/", views.new_run, name="benchmark-new"),
    path("new/models/", views.model_choices, name="benchmark-models"),
    path("new/estimate/", views.estimate, name="benchmark-estimate"),
    path("compare/", views.compare_runs, name="benchmark-compare"),
    path("<int:run_id>/", views.run_page, name="benchmark"),
    path("<int:run_id>/charts/", views.run_charts, name="benchmark-charts"),
    path("<int:run_id>/cancel/", views.cancel, name="benchmark-cancel"),
    path("<int:run_id>/baseline/", views.baseline, name="benchmark-baseline"),
    path("<int:run_id>/delete/", views.delete, name="benchmark-delete"),
    path("<int:run_id>/result.json", views.result_json, name="benchmark-json"),
    path("<int:run_id>/figures.csv", views.figures_csv, name="benchmark-figures"),
    path("<int:run_id>/requests.csv", views.requests_csv, name="benchmark-csv"),
]
