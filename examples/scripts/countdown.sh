#!/bin/sh
# Says something every second, to see output arrive while it is written.
#
#   birun run examples/scripts/countdown.sh -p SECONDS_LEFT=5
left=${SECONDS_LEFT:-10}
while [ "$left" -gt 0 ]; do
    echo "$left"
    left=$((left - 1))
    sleep 1
done
echo "done"
