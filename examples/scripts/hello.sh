#!/bin/sh
# The first thing to run:  birun run examples/scripts/hello.sh
echo "hello from $(uname -n), to ${NAME:-you}"
echo "this line went to stderr" >&2
