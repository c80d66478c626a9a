from django.urls import path

from inference.engines import views

urlpatterns = [
    path("", views.engines, name="engines"),
    path("new/", views.new, name="engine-new"),
    path("test/", views.test, name="engine-test"),
    path("fallbacks/new/", views.new_fallback, name="fallback-new"),
    path("fallbacks/<int:change_id>/", views.edit_fallback, name="fallback"),
    path("fallbacks/<int:change_id>/remove/", views.remove_fallback, name="fallback-remove"),
    path("<int:engine_id>/", views.edit, name="engine"),
    path("<int:engine_id>/delete/", views.delete, name="engine-delete"),
]
