# Removes what is kept of a detached run. $1 is the id of the step.
uid=$(id -u);
for base in ${TMPDIR:+"$TMPDIR"} /tmp; do rm -rf "$base/birun-$uid/$1"; done;
