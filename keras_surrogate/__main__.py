"""`python -m keras_surrogate` is the command `keras-surrogate`."""

import sys

from keras_surrogate.cli import main

sys.exit(main())
