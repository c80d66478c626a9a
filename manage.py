#!/usr/bin/env python
"""Django's command line; `manage.py help` lists the commands of this product."""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit("AICleaner Performance needs Python 3.11 or newer; this is %d.%d." % sys.version_info[:2])


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aicleaner_site.settings")
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        settings.INSTALLED_APPS  # noqa: B018 - the first look reads the settings
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
