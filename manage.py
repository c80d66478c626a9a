#!/usr/bin/env python
"""Django's command line; `manage.py help` lists the commands of this product."""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit("AICleaner Performance needs Python 3.11 or newer; this is %d.%d." % sys.version_info[:2])

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aicleaner_site.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
