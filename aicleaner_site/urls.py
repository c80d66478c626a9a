"""Every address of the web process."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from aicleaner_site import views

admin.autodiscover()
urlpatterns = [
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("login/once/<str:token>/", views.login_once, name="login-once"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("favicon.ico", views.favicon, name="favicon"),
    path("healthz", views.healthz, name="healthz"),
    path("metrics", views.metrics_text, name="metrics"),
    path("metrics/grafana.json", views.grafana_json, name="grafana"),
    path("admin/", admin.site.urls),
    path("", views.live, name="live"),
    path("live/first/", views.live_first, name="live-first"),
    path("history/", include("monitoring.history.urls")),
    path("alerts/", include("monitoring.alerts.urls")),
    path("insights/", include("monitoring.analysis.urls")),
    path("", include("inference.urls")),
    path("benchmarks/", include("benchmarks.urls")),
    path("tuning/", include("tuning.urls")),
]

handler500 = views.server_error
