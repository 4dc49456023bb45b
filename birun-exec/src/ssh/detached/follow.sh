# Follows a detached run, from given places in its output to its end.
#
# $1 is the id of the step, $2 a sign that no output holds by chance, $3 for how many hundredths of a second
# processes that were left behind may hold the output, $4 and $5 the places in stdout and stderr, and $6 the
# directory, where it is known.
# Both streams begin with a line under the sign; the last line of stderr is one as well.
step=$1 sign=$2 patience=$3 dir=$6;
say() { printf "birun:%s:%s\n" "$sign" "$1" >&2; };
printf "birun:%s:begin\n" "$sign"; say begin;

uptime= boot=;
{ read -r uptime rest </proc/uptime; read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null;
gone() { say "gone ${uptime:--}"; exit 0; };
if test -z "$dir"; then
    uid=$(id -u);
    case ${TMPDIR:-} in /*) tmp=$TMPDIR;; *) tmp=;; esac;
    for dir in ${tmp:+"$tmp/birun-$uid/$step"} "/tmp/birun-$uid/$step" ""; do
        test -d "$dir" && test -O "$dir" && break;
    done;
fi;
test -n "$dir" && test -r "$dir/stdout" && test -r "$dir/stderr" || gone;
exec 3<"$dir/stdout" 4<"$dir/stderr";
seen=$dir/seen.$sign;
end() { say "$1"; exit 0; };
skip() { test "$1" = 0 || dd bs=1 skip="$1" count=0 >/dev/null 2>&1; };
{ skip "$4" <&3 && skip "$5" <&4; } || end stuck;

# Whether the shell of the program still is the process that wrote its number down.
born() { shift 19; born=$1; };
runs() {
    read -r pid birth its_boot <"$dir/pid" && test "$pid" -gt 1 || return;
    case $birth in -) kill -0 "$pid"; return;; esac;
    test "$its_boot" = "$boot" && read -r line <"/proc/$pid/stat" && born ${line##*) } && test "$born" = "$birth";
};
# How it ended, where nobody wrote it down.
lost() {
    pid= birth= its_boot=;
    { read -r pid birth its_boot <"$dir/pid"; } 2>/dev/null;
    case $its_boot in "$boot" | - | "") end "dead ${pid:--}";; *) end rebooted;; esac;
};
# Whether a stream may have grown since it was copied: in the same instant, it may.
grew() { test -s "$dir/$1" || return; if test "$seen.$1" -nt "$dir/$1"; then return 1; fi; };
# A full disk must not end this shell, as it would where a special builtin cannot redirect.
stamp() { { true >"$1"; } 2>/dev/null; };
copy_stdout() { stamp "$seen.stdout"; cat <&3 || end stuck; };
copy_stderr() { stamp "$seen.stderr"; cat <&4 >&2 || end stuck; };

# Whose child this is: another one's as soon as the connection has ended, and nobody listens any more.
second() { shift; parent=$1; };
look_up() { read -r line <"/proc/$$/stat" && second ${line##*) }; };
parent=; look_up 2>/dev/null; listener=$parent;

nap=1 quiet=0 turn=0 missing=0 held=0 told=;
while :; do
    test -d "$dir" || gone;
    look_up 2>/dev/null; test "$parent" = "$listener" || exit 0;
    # The end is looked for before the output is copied, so that what was written before it is copied.
    over=; test -f "$dir/exit" && over=1;
    if test -z "$told" && test -s "$dir/opening"; then
        told=1; read -r opening <"$dir/opening"; printf "%s\n" "$opening" >&2;
    fi;
    # A clock that was set back hides that a stream has grown: every tenth look copies without asking.
    copied= turn=$((turn + 1)) anyway=$over; test "$((turn % 10))" = 0 && anyway=1;
    if grew stdout; then copied=1; copy_stdout; elif test -n "$anyway"; then copy_stdout; fi;
    if test -z "$over$told"; then :; elif grew stderr; then copied=1; copy_stderr; elif test -n "$anyway"; then copy_stderr; fi;
    test -n "$over" && { stamp "$dir/seen"; read -r line <"$dir/exit"; end "exit $line"; };
    # Every 10 ms at first and after something was copied, later every 160 ms.
    quiet=$((quiet + 1)); test -n "$copied" && nap=1 quiet=0;
    test "$quiet" -gt 8 && test "$nap" -lt 16 && nap=$((nap * 2));
    if test -f "$dir/code"; then
        missing=0 held=$((held + nap)); read -r line <"$dir/code";
        test "$held" -gt "$patience" && end "lingers $line";
    elif runs 2>/dev/null; then
        missing=0;
    else
        missing=$((missing + nap));
        test "$missing" -gt 500 && lost;
    fi;
    sleep "0.$((nap / 10))$((nap % 10))" 2>/dev/null || { nap=100; sleep 1; };
done;
