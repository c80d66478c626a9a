from django.urls import path
from django.views.generic import RedirectView

from tuning import views

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="profiles"), name="tuning"),
    path("pill/", views.pill, name="profile-pill"),
    path("profiles/", views.profiles, name="profiles"),
    path("profiles/<str:name>/", views.profile, name="profile"),
    path("profiles/<str:name>/variants/", views.profile_variants, name="profile-variants"),
    path("profiles/<str:name>/restore/", views.restore, name="profile-restore"),
    path("activate/", views.activate, name="profile-activate"),
    path("context/", views.set_context, name="profile-context"),
    path("undo/", views.undo, name="profile-undo"),
]
