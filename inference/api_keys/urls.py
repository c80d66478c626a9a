from django.urls import path

from inference.api_keys import views

urlpatterns = [
    path("", views.keys, name="api-keys"),
    path("new/", views.new, name="api-key-new"),
    path("<int:key_id>/", views.key, name="api-key"),
    path("<int:key_id>/enabled/", views.enable, name="api-key-enable"),
    path("<int:key_id>/rotate/", views.rotate, name="api-key-rotate"),
    path("<int:key_id>/delete/", views.delete, name="api-key-delete"),
]
