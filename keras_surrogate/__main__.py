"""The command `keras-surrogate`, as `python -m keras_surrogate`."""

import sys

from keras_surrogate.cli import main

sys.exit(main())
