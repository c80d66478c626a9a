from django.apps import AppConfig


class BenchmarksConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    name = "benchmarks"

    def ready(self) -> None:
        from benchmarks.selectors import heavy_work, use_of_model
        from inference import heavy
        from inference.catalogue import uses

        uses.users.append(use_of_model)
        heavy.upper.append(heavy_work)
