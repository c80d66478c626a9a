from django.urls import path

from monitoring.analysis import views

urlpatterns = [
    path("", views.insights, name="insights"),
    path("usual/", views.usual, name="insights-usual"),
    path("<int:finding_id>/", views.finding, name="finding"),
    path("<int:finding_id>/dismiss/", views.dismiss, name="finding-dismiss"),
    path("<int:finding_id>/show/", views.show_again, name="finding-show"),
]
