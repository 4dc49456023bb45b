# Keeps a detached run: its output, its exit code, and its directory until nobody wants that any more.
#
# $1 is the id of the step, $2 the directory, $3 the shell that runs the program, $4 its option if it
# needs one, $5 the text that it is given.
step=$1 dir=$2;
set -- "$3" ${4:+"$4"} -c "$5" script "$step";
setsid=; test -f "$dir/no-setsid" || setsid=setsid;

# Keeps one stream in a file. Beyond 256 MiB, or where the disk is full, it is read on and thrown away.
keep() {
    ( ulimit -c 0; (ulimit -f 524288) && ulimit -f 524288; exec cat >>"$dir/$1" ) 2>/dev/null && return;
    { true >"$dir/$1.cut"; } 2>/dev/null;
    exec cat >/dev/null;
};

# Takes the line by which the shell tells how it went; what comes before is output.
opening() {
    while IFS= read -r line; do
        case $line in "birun:$step:"*)
            printf "%s\n" "$line" >"$dir/opening"; return;;
        esac;
        printf "%s\n" "$line" >>"$dir/stderr";
    done;
};

# Writes down who it is (number, instant of birth, boot), then becomes the shell of the program.
lead="
    exec 2>&4 4>&-; dir=\$1; shift;
    born() { shift 19; born=\$1; };
    born= boot=;
    { read -r line </proc/\$\$/stat && born \${line##*) } && read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null;
    echo \"\$\$ \${born:--} \${boot:--}\" >\"\$dir/pid\" && exec \"\$@\";
";

# A shell lets what it starts in the background ignore INT and QUIT; the program is to hear them.
if env --default-signal=INT,QUIT true 2>/dev/null; then
    set -- env --default-signal=INT,QUIT "$@";
elif command -v perl >/dev/null 2>&1; then
    set -- perl -e "\$SIG{INT} = \$SIG{QUIT} = \"DEFAULT\"; exec @ARGV" "$@";
fi;

# This shell says something when its child is killed: a code of 137 alone would not tell it. So what the
# child writes must not be redirected here, but there; and a bash must not be in its POSIX mode.
{
    {
        : >"$dir/said"; test -z "$BASH_VERSION" || set +o posix;
        $setsid /bin/sh -c "$lead" lead "$dir" "$@";
        code=$? signal=;
        test "$code" -gt 128 && test -s "$dir/said" && signal=$(kill -l "$code" 2>/dev/null);
        echo "$code ${signal:--}" >"$dir/code";
    } | keep stdout 2>/dev/null;
} 4>&1 2>"$dir/said" | { opening; keep stderr; };

cut=; for stream in stdout stderr; do test -f "$dir/$stream.cut" && cut="$cut $stream"; done;
read -r code <"$dir/code";
( cd "$dir" && set -- $(wc -c stdout stderr) && echo "$code $1 $3$cut" >exit.new && mv exit.new exit );
for base in ${XDG_RUNTIME_DIR:+"$XDG_RUNTIME_DIR"} ${TMPDIR:+"$TMPDIR"} /tmp; do rm -rf "$base/birun-$step"; done;

# Waits for the directory to be removed, and does it when nobody has followed the run for 7 days.
cd /;
nap=1 idle=0;
while test -d "$dir" && test "$idle" -lt 604800; do
    sleep "$nap"; idle=$((idle + nap));
    test "$nap" -lt 60 && nap=$((nap * 2));
    test "$dir/seen" -nt "$dir/exit" && { idle=0; touch -r "$dir/seen" "$dir/exit"; };
done;
rm -rf "$dir";
