"""Django settings. Everything an operator changes is an environment variable or a key of `config.yaml`;
README.md lists both. Nothing here touches the disk except reading the secret key that `manage.py up` made."""

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aicleaner_site import environment as env
from aicleaner_site.admin_look import UNFOLD as UNFOLD
from aicleaner_site.config import load_config

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.path("AICLEANER_DATA_DIR", BASE_DIR / "var")
RUN_DIR = env.run_dir(DATA_DIR)
LOG_DIR = DATA_DIR / "logs"
MODELS_DIR = DATA_DIR / "models"
CONFIG_FILE = env.path("AICLEANER_CONFIG", BASE_DIR / "config.yaml")
CONFIG = load_config(CONFIG_FILE)

SECRET_KEY = env.secret_key(DATA_DIR)
DEBUG = env.boolean("AICLEANER_DEBUG", default=False)
ALLOWED_HOSTS = env.words("AICLEANER_ALLOWED_HOSTS", "localhost 127.0.0.1 [::1]")
CSRF_TRUSTED_ORIGINS = env.words("AICLEANER_TRUSTED_ORIGINS", "")
PUBLIC_URL = env.public_url("AICLEANER_PUBLIC_URL")  # '': notices carry no link
if PUBLIC_URL:  # whoever follows a link there must get in
    ALLOWED_HOSTS.append(env.host_of(PUBLIC_URL))
    CSRF_TRUSTED_ORIGINS.append(PUBLIC_URL)

# --- addresses -------------------------------------------------------------------------------------------
WEB_HOST = env.text("AICLEANER_WEB_HOST", "127.0.0.1")
WEB_PORT = env.port("AICLEANER_WEB_PORT", 8000)
GATEWAY_HOST = env.text("AICLEANER_GATEWAY_HOST", "127.0.0.1")
GATEWAY_PORT = env.port("AICLEANER_GATEWAY_PORT", 11435)
GATEWAY_URL = env.text("AICLEANER_GATEWAY_URL", f"http://127.0.0.1:{GATEWAY_PORT}")
# Of whom the gateway wants an API key: other machines, everybody, nobody.
GATEWAY_REQUIRE_KEY = env.choice("AICLEANER_GATEWAY_REQUIRE_KEY", "remote", ("remote", "always", "never"))
GATEWAY_TRUSTED_PROXIES = env.networks(
    "AICLEANER_GATEWAY_TRUSTED_PROXIES"
)  # whose X-Forwarded-For it believes
ENGINE_HOST = "127.0.0.1"
ENGINE_PORT = env.port("AICLEANER_ENGINE_PORT", 11436)
# The embedded engine takes the limits from where Ollama takes them.
ENGINE_NUM_PARALLEL = (
    env.integer("OLLAMA_NUM_PARALLEL", 0, low=0, high=64) or 1
)  # 0: Ollama's word for "choose"
ORIGINS = env.origins("OLLAMA_ORIGINS")  # of pages elsewhere that may ask gateway and embedded engine
ENGINE_MAX_QUEUE = env.integer("OLLAMA_MAX_QUEUE", 512)
ENGINE_CONTEXT_LENGTH = env.integer("OLLAMA_CONTEXT_LENGTH", 0, low=0) or 4096
ENGINE_KV_CACHE_TYPE = env.choice("OLLAMA_KV_CACHE_TYPE", "f16", ("f16", "q8_0", "q4_0"))
ENGINE_FLASH_ATTENTION = {None: "auto", True: "on", False: "off"}[env.flag("OLLAMA_FLASH_ATTENTION")]
SAMPLE_MODEL = BASE_DIR / "inference" / "sample_model" / "aicleaner-sample-f16.gguf"
GATEWAY_MAX_BODY_BYTES = env.integer("AICLEANER_GATEWAY_MAX_BODY_MB", 64, high=4096) * 2**20
HOST_NAME = env.text("AICLEANER_HOST_NAME", socket.gethostname())
HOST_TIME_ZONE = env.time_zone()  # of the hours that are usual; pages show the viewer's

# In order of preference: whoever answers first is the engine in use.
ENGINES: list[dict[str, str]] = [
    {"kind": "ollama", "url": env.ollama_url()},
    {"kind": "embedded", "url": f"http://{ENGINE_HOST}:{ENGINE_PORT}"},
]

VALKEY_SOCKET = RUN_DIR / "valkey.sock"
VALKEY_EMBEDDED = not env.valkey_url("REDIS_URL")
VALKEY_URL = env.valkey_url("REDIS_URL") or f"unix://{VALKEY_SOCKET}"

# --- Django ----------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    # Without discovery: aicleaner_site.urls does it, so that only the process of the pages loads what the admin stands on.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_celery_beat",
    "django_htmx",
    "aicleaner_site",
    "tuning",
    "benchmarks",
    "monitoring",
    "inference",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "aicleaner_site.viewer_zone.viewer_zone",
]
ROOT_URLCONF = "aicleaner_site.urls"
ASGI_APPLICATION = "aicleaner_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "aicleaner_site.context_processors.site",
                "monitoring.alerts.context.open_alerts_of",
            ],
        },
    },
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# Cookies are per host name, not per port: a name of our own keeps other local consoles from logging us out.
SESSION_COOKIE_NAME = "aicleaner_session"
CSRF_COOKIE_NAME = "aicleaner_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.boolean("AICLEANER_HTTPS", default=False)
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = "aicleaner_site.formats"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_AUTOREFRESH = DEBUG
SERVESTATIC_ALLOW_ALL_ORIGINS = False

# --- database --------------------------------------------------------------------------------------------
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
_database = env.database("DATABASE_URL", f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}")
if _database["ENGINE"] == "django.db.backends.sqlite3":
    _database["OPTIONS"] = {
        # A write transaction takes its lock at once: two processes wait for each other instead of failing midway.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000;",
    }
    # The tests run other processes against the database: it has to be a file.
    _database["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
DATABASES = {"default": _database}

# --- channels and celery ---------------------------------------------------------------------------------
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [VALKEY_URL], "prefix": "aicleaner:channels"},
    }
}
CELERY_BROKER_URL = (
    f"redis+socket://{VALKEY_URL.removeprefix('unix://')}" if VALKEY_URL.startswith("unix://") else VALKEY_URL
)
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": "aicleaner:celery:",
    "visibility_timeout": 6 * 3600,
    # Who wakes the worker while Valkey is away (the evaluator of alerts, a page) must not wait 6 s for it each time: beat
    # does it later. Workers and beat have their own patience.
    "max_retries": 1,
    "interval_start": 0,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TIMEZONE = "UTC"
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "benchmarks.*": {"queue": "benchmarks"},
    "inference.tasks.model_*": {"queue": "models"},
    "monitoring.tasks.deliver_*": {"queue": "deliveries"},
}
# The names are OpenTelemetry's own; its SDK reads the rest of them (headers, certificate, timeout).
OTLP_ENABLED = any(
    os.environ.get(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT") for name in ("", "METRICS_")
) and not env.flag("OTEL_SDK_DISABLED")
OTLP_INTERVAL_S = env.integer("OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000
CELERY_BEAT_SCHEDULER = "aicleaner_site.beat_schedule:Schedule"
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "heartbeat": {"task": "aicleaner_site.tasks.heartbeat", "schedule": 10.0, "options": {"expires": 10}},
    "store request records": {
        "task": "inference.tasks.store_request_records",
        "schedule": 2.0,
        "options": {"expires": 2},
    },
    "keep gateway in step": {
        "task": "tuning.tasks.keep_gateway_in_step",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "optimize models": {
        "task": "tuning.tasks.optimize_models",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "keep aliases, zones and keys in step": {
        "task": "inference.tasks.keep_gateway_in_step",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "deliver notices": {
        "task": "monitoring.tasks.deliver_notices",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "watch host": {"task": "monitoring.tasks.watch_host", "schedule": 5.0, "options": {"expires": 20}},
    "beat outside": {"task": "monitoring.tasks.beat_outside", "schedule": 60.0, "options": {"expires": 60}},
    "export by OTLP": {
        "task": "monitoring.tasks.export_otlp",
        "schedule": OTLP_INTERVAL_S,
        "options": {"expires": OTLP_INTERVAL_S},
    },
    "look at series": {
        "task": "monitoring.tasks.look_at_series",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "delete old alerts": {"task": "monitoring.tasks.delete_old_alerts", "schedule": 3600.0},
    "look after benchmarks": {
        "task": "benchmarks.tasks.look_after_runs",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "look after model jobs": {
        "task": "inference.tasks.model_look_after_jobs",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "follow models": {
        "task": "inference.tasks.model_follow_gateway",
        "schedule": 2.0,
        "options": {"expires": 2},
    },
    "delete old request records": {"task": "inference.tasks.delete_old_request_records", "schedule": 3600.0},
    "delete old prompts": {
        "task": "inference.tasks.delete_old_prompts",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
}

# --- product ---------------------------------------------------------------------------------------------
METRICS_TOKEN = env.text("AICLEANER_METRICS_TOKEN")
METRICS_RETENTION_HOURS = CONFIG.monitoring.metrics_retention_hours
ALERT_GROUP_WAIT_S = env.integer(
    "AICLEANER_ALERT_GROUP_WAIT_S", 30, 0, 600
)  # where no escalation policy says it
ALERT_HEARTBEAT_URL = env.http_url("AICLEANER_HEARTBEAT_URL")  # '': no watcher outside is told
REQUEST_RETENTION_DAYS = env.integer("AICLEANER_REQUEST_RETENTION_DAYS", 30)
# Bytes of each prompt that the request log keeps; 0, unless the setting says otherwise: none.
KEEP_PROMPT_BYTES = CONFIG.request_log.max_prompt_bytes if CONFIG.request_log.keep_prompts else 0
PROMPT_RETENTION_HOURS = CONFIG.request_log.prompt_retention_hours

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        "nowhere": {"class": "logging.NullHandler"},
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django.channels.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        # It quotes its URLs, which are secrets; what a channel of ours needs of it, it takes (apprise_url.py).
        "apprise": {"handlers": ["nowhere"], "propagate": False, "level": "WARNING"},
    },
}
