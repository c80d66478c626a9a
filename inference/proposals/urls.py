from django.urls import path

from inference.proposals import views

urlpatterns = [
    path("proposals/", views.proposals, name="proposals"),
    path("proposals/<int:proposal_id>/start/", views.start, name="proposal-start"),
    path("proposals/<int:proposal_id>/dismiss/", views.dismiss, name="proposal-dismiss"),
]
