from django.urls import path

from inference.jobs import views

urlpatterns = [
    path("jobs/", views.job_list, name="jobs"),
    path("jobs/new/", views.new_job, name="job-new"),
    path("jobs/<int:job_id>/", views.job_page, name="job"),
    path("jobs/<int:job_id>/json/", views.job_json, name="job-json"),
    path("jobs/<int:job_id>/cancel/", views.cancel, name="job-cancel"),
    path("jobs/<int:job_id>/retry/", views.retry, name="job-retry"),
    path("jobs/kept/<str:key>/throw-away/", views.throw_away_checkpoint, name="checkpoint-delete"),
    path("variants/", views.variants, name="variants"),
    path("variants/<int:variant_id>/", views.variant_page, name="variant"),
    path("variants/<int:variant_id>/use/", views.use_variant, name="variant-use"),
    path("aliases/<int:change_id>/undo/", views.undo_alias, name="alias-undo"),
]
