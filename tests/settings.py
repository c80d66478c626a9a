"""Settings of the tests: the product's own, over a data folder that is made for this run and removed at its end.

pytest-django reads settings before any conftest.py, so the environment is laid here; processes that a test starts
inherit it."""

import atexit
import os
import shutil
import tempfile

_data_dir = tempfile.mkdtemp(prefix="aic-test-")  # short, for the socket paths
_owner = os.getpid()


@atexit.register
def _remove() -> None:
    if os.getpid() == _owner:  # a forked child must not take the folder away
        shutil.rmtree(_data_dir, ignore_errors=True)


os.environ["AICLEANER_DATA_DIR"] = _data_dir
# Processes that a test starts run on the product's own settings; this process has read the variable already.
os.environ["DJANGO_SETTINGS_MODULE"] = "aicleaner_site.settings"
os.environ["AICLEANER_SECRET_KEY"] = "only-for-tests"
# No test may reach an Ollama that happens to run on the developer's machine.
os.environ["OLLAMA_HOST"] = "127.0.0.1:1"
# Only tests of groups wait for one.
os.environ["AICLEANER_ALERT_GROUP_WAIT_S"] = "0"
for _name in ("REDIS_URL", "AICLEANER_ADMIN_PASSWORD", "AICLEANER_CONFIG"):
    os.environ.pop(_name, None)

from aicleaner_site.settings import *  # noqa: E402, F403
