from django.urls import path

from inference.caching import views

urlpatterns = [
    path("", views.cache, name="cache"),
    path("clear/", views.clear, name="cache-clear"),
    path("zones/", views.set_zone, name="cache-zone"),
    path("zones/<int:zone_id>/remove/", views.remove_zone, name="cache-zone-remove"),
]
