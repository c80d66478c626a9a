from django.apps import AppConfig


class BenchmarksConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    name = "benchmarks"

    def ready(self) -> None:
        from benchmarks.selectors import use_of_model
        from inference.catalogue import uses

        uses.users.append(use_of_model)
