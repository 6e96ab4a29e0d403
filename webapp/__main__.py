import os
import sys

from webapp.cli import main

os.umask(0o077)  # before any file is made: what an installation keeps is its user's alone; children inherit it
sys.exit(main())
