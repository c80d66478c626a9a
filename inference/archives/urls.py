from django.urls import path

from inference.archives import views

urlpatterns = [
    path("archives/", views.archive_list, name="archives"),
    path("archives/<int:archive_id>/unarchive/", views.unarchive, name="archive-unarchive"),
    path("archives/<int:archive_id>/delete/", views.delete, name="archive-delete"),
]
