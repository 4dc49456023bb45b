#!/bin/sh
# Fails when a file system is fuller than LIMIT percent.
#
#   birun script create disk-report --file examples/scripts/disk.sh --param LIMIT:number=80
#   birun run disk-report --on tag:prod -p LIMIT=90
df -P -l | awk -v limit="${LIMIT:-80}" '
    NR > 1 { used = $5; sub("%", "", used); printf "%-24s %4s\n", $1, $5; if (used + 0 > limit) full++ }
    END { if (full) { print full " over " limit "%" > "/dev/stderr"; exit 1 } }'
