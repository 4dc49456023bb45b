# Removes what is kept of a detached run. $1 is the id of the step.
uid=$(id -u);
case ${TMPDIR:-} in /*) tmp=$TMPDIR;; *) tmp=;; esac;
for base in ${tmp:+"$tmp"} /tmp; do rm -rf "$base/birun-$uid/$1"; done;
