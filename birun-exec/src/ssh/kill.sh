# Ends every process of one step: TERM, after the grace KILL, then a last look.
#
# Comes over stdin to /bin/sh, after the lines `id=…` (the step) and `grace=…` (in hundredths of a
# second). Answers one line: `gone`, `confirmed`, `left PID…`, or `unknown` where it could not look:
# an empty list is a proof only if whoever made it tells that it came to its end.

# Lines of a process's environment or command line.
lines() { tr '\0' '\n' <"$1"; }

carries() { lines "$1" | grep -qx "BIRUN_STEP_ID=$id"; }

# Whether a command line is that of the shell that birun starts for the step, or of the login shell
# that is to become it.
is_shell() {
    lines "$1" | sed -n '$!{h;d;};H;x;s/\n/ /;p' | grep -qx -e "script $id " -e "script $id" -e "-c exec .* script $id"
}

# Whether this machine's tools see what there is to be seen.
can_see() {
    ! [ -r /proc/self/environ ] || printf 'sh\0-c\0x\0script\0%s\0' "$id" | is_shell /proc/self/fd/0
}

# The processes that carry the step's mark: in their environment, or as the shell's last argument.
# Fails when it could not look at all of them; a shell that cannot start a program ends with a failure.
marked() {
    if ! [ -r /proc/self/environ ]; then
        ps axeww -o pid= -o command= | grep -e "BIRUN_STEP_ID=$id" -e " script $id" | while read -r pid _; do
            echo "$pid"
        done
    elif printf 'a\0b' | grep -qzx a; then
        grep -lszx "BIRUN_STEP_ID=$id" /proc/[0-9]*/environ | sed 's/[^0-9]//g' || return
        grep -lsze "^$id\$" -e "^exec .* script $id\$" /proc/[0-9]*/cmdline | sed 's/[^0-9]//g' | while read -r pid; do
            is_shell "/proc/$pid/cmdline" && echo "$pid"
            :
        done
    else
        for dir in /proc/[0-9]*; do
            carries "$dir/environ" && echo "${dir#/proc/}"
            is_shell "$dir/cmdline" && echo "${dir#/proc/}"
        done
        :
    fi
}

# All processes that are not zombies: pid, parent, group, session (0 where unknown).
processes() {
    if [ -r /proc/self/stat ]; then
        awk 'BEGIN {
            for (i = 1; i < ARGC; i++) {
                file = ARGV[i] "/stat"
                text = ""
                while ((getline line < file) > 0) text = text " " line
                close(file)
                # The name, in parentheses, may hold anything: what counts follows the last of them.
                if (sub(/^.*\) /, "", text) && split(text, field, " ") > 3 && field[1] !~ /^[ZX]$/)
                    print substr(ARGV[i], 7), field[2], field[3], field[4]
            }
        }' /proc/[0-9]*
    else
        ps -A -o pid= -o ppid= -o pgid= -o stat= | while read -r pid parent group state; do
            case $state in Z*) ;; *) echo "$pid $parent $group 0" ;; esac
        done
    fi
}

# The marked processes, their descendants, and the groups and sessions that are theirs alone:
# those whose leader is one of them or has ended. Never this shell or anything it stands in.
# Ends with `ok` if both lists came to their end and this shell was seen in the second.
family() {
    { { marked && echo end; } | sed 's/^/mark /'; processes && echo end; } 2>/dev/null | awk -v self=$$ '
        $1 == "mark" { if ($2 == "end") marked = 1; else if ($2 ~ /^[0-9]+$/) marks[$2] = 1; next }
        $1 == "end" { listed = 1 }
        $1 ~ /^[0-9]+$/ && $2 ~ /^[0-9]+$/ { parent[$1] = $2; group[$1] = $3; session[$1] = $4 }
        function descend(  grown, pid) {
            do {
                grown = 0
                for (pid in parent) if (!(pid in ours) && (parent[pid] in ours)) { ours[pid] = 1; grown = 1 }
            } while (grown)
        }
        function is_mine(pid) {
            while ((pid in parent) && pid != self) pid = parent[pid]
            return pid == self
        }
        function theirs(leader) { return leader > 1 && ((leader in ours) || !(leader in parent)) }
        END {
            for (pid in marks) if (pid in parent) ours[pid] = 1
            descend()
            for (pid in ours) {
                if (theirs(group[pid])) groups[group[pid]] = 1
                if (theirs(session[pid])) sessions[session[pid]] = 1
            }
            delete groups[group[self]]
            delete sessions[session[self]]
            for (pid in parent) if ((group[pid] in groups) || (session[pid] in sessions)) ours[pid] = 1
            descend()
            for (pid = self; pid in parent; pid = parent[pid]) spared[pid] = 1
            for (pid in ours) if (pid > 1 && !(pid in spared) && !is_mine(pid)) printf "%s ", pid
            if (marked && listed && (self in parent)) print "ok"
        }' 2>/dev/null
}

# Sets `pids`. Fails when nobody can tell whether these are all.
look() {
    found=$(family)
    pids=${found%ok}
    [ "$pids" != "$found" ]
}

# Looks again where a look failed: what was in its way may pass.
look_well() {
    look || { nap && look; } || { nap && look; }
}

nap() { sleep 0.1 2>/dev/null || sleep 1; }

# Sets `now` to hundredths of a second since some moment, if it can without starting a program.
read_clock() {
    if { read -r now _ </proc/uptime; } 2>/dev/null; then
        case $now in *.??) now=$((${now%.*} * 100 + 1${now#*.} - 100)) && return ;; esac
    fi
    # This clock counts whole seconds only: so the one that has begun does not count.
    now=$(date +%s) && now=$((now * 100 - slack))
}

# Whether any of the given processes still runs.
running() {
    for pid in "$@"; do
        if [ -r /proc/self/stat ]; then
            { read -r line <"/proc/$pid/stat"; } 2>/dev/null || continue
            case ${line##*) } in Z* | X*) continue ;; esac
            return 0
        fi
        kill -0 "$pid" 2>/dev/null && return 0
    done
    return 1
}

# Asks each of `pids` to end, once.
ask() {
    for pid in $pids; do
        case $asked in *" $pid "*) continue ;; esac
        kill -TERM "$pid" 2>/dev/null
        # What is suspended would not hear it.
        kill -CONT "$pid" 2>/dev/null
        asked="$asked$pid "
    done
}

# shellcheck disable=SC2086
end() {
    can_see && look_well || return
    [ -n "$pids" ] || { answer=gone; return; }
    asked=" " slack=0 glances=0
    ask
    read_clock
    limit=$((now + grace)) slack=100
    while [ "$now" -lt "$limit" ]; do
        nap
        # A whole look costs more than one at those who are known, so there are fewer of them.
        glances=$(((glances + 1) % 10))
        if [ "$glances" = 0 ] || ! running $pids; then
            look_well || return
            [ -n "$pids" ] || { answer=confirmed; return; }
            ask
        fi
        read_clock
    done
    limit=$((now + 1000))
    while :; do
        look_well || return
        [ -n "$pids" ] || { answer=confirmed; return; }
        [ "$now" -lt "$limit" ] || { answer="left $pids"; return; }
        kill -KILL $pids 2>/dev/null
        nap
        read_clock
    done
}

# Gives the answer, even where no program can be started any more and the shell ends for it. Where the
# answer is unknown, what is known is killed all the same, and what carries the mark.
# shellcheck disable=SC2046,SC2086
finish() {
    trap - EXIT
    [ "$answer" != unknown ] || [ -z "$pids" ] || kill -KILL $pids 2>/dev/null
    echo "$answer"
    [ "$answer" != unknown ] || kill -KILL $(marked) 2>/dev/null
}

answer=unknown pids=
trap finish EXIT
end </dev/null
for dir in "$XDG_RUNTIME_DIR" "$TMPDIR" /tmp; do
    [ -n "$dir" ] && rm -rf "$dir/birun-$id"
done
exit 0
