from django.urls import path

from monitoring.alerts import views

urlpatterns = [
    path("", views.alerts, name="alerts"),
    path("strip/", views.strip, name="alert-strip"),
    path("rules/", views.rules, name="alert-rules"),
    path("silences/", views.silences, name="silences"),
    path("silences/fits/", views.silence_fits, name="silence-fits"),
    path("silences/<int:silence_id>/end/", views.end_silence, name="silence-end"),
    path("<int:alert_id>/", views.alert, name="alert"),
    path("<int:alert_id>/acknowledge/", views.acknowledge, name="alert-acknowledge"),
    path("<int:alert_id>/withdraw/", views.withdraw, name="alert-withdraw"),
    path("<int:alert_id>/note/", views.note, name="alert-note"),
    path("<int:alert_id>/resolve/", views.resolve, name="alert-resolve"),
]
