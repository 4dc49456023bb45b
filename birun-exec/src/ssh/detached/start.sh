# Begins a detached run, then becomes its first follower.
#
# $1 and $2 are keep.sh and follow.sh, $3 is the follower's sign and $4 its patience, $5 the shell that
# runs the program, $6 its option if it needs one, $7 the text that it is given, and $8 the word `script`;
# $9 is the id of the step. What that shell is to read arrives over stdin.
keep=$1 follow=$2 sign=$3 patience=$4 step=$9 uid=$(id -u) why=;
case ${TMPDIR:-} in /*) tmp=$TMPDIR;; *) tmp=;; esac;
for base in ${tmp:+"$tmp"} /tmp ""; do
    case $base in "")
        printf "birun:%s:begin\n" "$sign";
        printf "birun:%s:begin\nbirun:%s:refused file %s\n" "$sign" "$step" "$why" >&2;
        exit 126;;
    esac;
    own=$base/birun-$uid dir=$base/birun-$uid/$step;
    why=$(
        exec 2>&1; umask 077;
        test -d "$own" || mkdir "$own" || test -d "$own" || exit;
        test -O "$own" || { echo "$own is not ours"; exit 1; };
        mkdir "$dir" || exit;
        if test -L "$own"; then rmdir "$dir"; echo "$own is a link"; exit 1; fi;
        : >"$dir/stdout" && : >"$dir/stderr";
    ) && break;
done;
setsid=setsid;
command -v setsid >/dev/null 2>&1 || {
    setsid=; trap "" HUP; : >"$dir/no-setsid";
    echo "[birun: this server has no setsid: the program shares a session with the connection that began it]";
};
# A pipe is between, so that nothing but cat holds the channel, and that only until the input ends.
exec 5<&0;
( cat <&5 2>/dev/null | exec $setsid /bin/sh -c "$keep" keep "$step" "$dir" "$5" "$6" "$7" 5<&- >/dev/null 2>"$dir/said" & );
exec 5<&- </dev/null /bin/sh -c "$follow" follow "$step" "$sign" "$patience" 0 0 "$dir";
