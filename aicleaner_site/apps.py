from django.apps import AppConfig


class AicleanerSiteConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    name = "aicleaner_site"
    verbose_name = "AICleaner Performance"

    def ready(self) -> None:
        from aicleaner_site import joints

        joints.connect()
