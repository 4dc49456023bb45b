//! The constant text that a shell runs.

/// Begins the name of the private directory of a program that is run from a file; the step id
/// ends it. It stands in the first of `$XDG_RUNTIME_DIR`, `$TMPDIR` and `/tmp` (as they are before
/// any variable of the work is set) in which it could be made.
pub(crate) const DIRECTORY: &str = "birun-";

/// What a POSIX shell is given with `-c`, followed by the words `script` (which becomes `$0`) and
/// the step id (`$1`).
///
/// It holds no single quote, no newline, no `!` and no double backslash: so it can stand between
/// single quotes in a line for sh, bash, zsh, csh and fish alike. Its own names begin with
/// `BIRUN__`, which no parameter can, and are gone when the body runs.
///
/// - `${IFS#??}` is a newline: a shell always begins with IFS at space, tab, newline.
/// - `export "NAME=value"` takes the value as it is; it fails for what the shell holds read-only.
/// - Reading costs a system call a byte, `cat` costs a process: hence the two ways for the body.
/// - The body must be the argument of the last `eval`, outside of any condition, or its `set -e`
///   would not work.
pub(crate) const COMMAND: &str = "\
    export BIRUN_STEP_ID=\"$1\"; set --; \
    BIRUN__N=${IFS#??}; BIRUN__V=; BIRUN__P=; BIRUN__A=; BIRUN__B=; BIRUN__E=; \
    BIRUN__X=${XDG_RUNTIME_DIR:-}; BIRUN__T=${TMPDIR:-}; \
    birun__say() { printf \"birun:%s:%s\\n\" \"$BIRUN_STEP_ID\" \"$1\" >&2; }; \
    birun__refuse() { birun__say \"refused $1\"; exit 126; }; \
    while IFS= read -r BIRUN__L; do \
        case $BIRUN__L in \
            +*) BIRUN__V=$BIRUN__V$BIRUN__N${BIRUN__L#+}; continue;; \
        esac; \
        case $BIRUN__V in \
            \"\") ;; \
            @program=*) BIRUN__P=${BIRUN__V#*=};; \
            @argument=*) BIRUN__A=${BIRUN__V#*=};; \
            @body=*) BIRUN__B=${BIRUN__V#*=};; \
            *) export \"$BIRUN__V\" 2>/dev/null || birun__refuse \"variable ${BIRUN__V%%=*}\";; \
        esac; \
        BIRUN__V=$BIRUN__L; \
        case $BIRUN__L in .) break;; esac; \
    done; \
    case $BIRUN__L in .) ;; *) birun__refuse cut;; esac; \
    case $BIRUN__B in \"\") \
        BIRUN__B=$(cat); \
        case $BIRUN__B in \
            *\"$BIRUN__N.$BIRUN_STEP_ID\") BIRUN__B=${BIRUN__B%\"$BIRUN__N.$BIRUN_STEP_ID\"};; \
            *) birun__refuse cut;; \
        esac;; \
    esac; \
    exec </dev/null; \
    case $BIRUN__P in ?*) \
        case $BIRUN__P in \
            */*) test -f \"$BIRUN__P\" && test -x \"$BIRUN__P\";; \
            *) command -v \"$BIRUN__P\" >/dev/null 2>&1;; \
        esac || birun__refuse \"interpreter $BIRUN__P\"; \
        for BIRUN__D in ${BIRUN__X:+\"$BIRUN__X\"} ${BIRUN__T:+\"$BIRUN__T\"} /tmp \"\"; do \
            case $BIRUN__D in \"\") birun__refuse \"file $BIRUN__E\";; esac; \
            BIRUN__D=$BIRUN__D/birun-$BIRUN_STEP_ID; \
            BIRUN__E=$(exec 2>&1; umask 077; mkdir \"$BIRUN__D\" && printf %s \"$BIRUN__B\" >\"$BIRUN__D/script\") \
                && break; \
        done; \
        birun__say started; \
        exec \"$BIRUN__P\" ${BIRUN__A:+\"$BIRUN__A\"} \"$BIRUN__D/script\";; \
    esac; \
    birun__say started; \
    eval \"unset BIRUN__N BIRUN__V BIRUN__P BIRUN__A BIRUN__B BIRUN__E BIRUN__X BIRUN__T BIRUN__L \
    BASH_EXECUTION_STRING; unset -f birun__say birun__refuse;$BIRUN__B\"";

/// Removes the private directory of a step, wherever it was made; given like [`COMMAND`].
pub(crate) const CLEANUP: &str = "\
    for d in ${XDG_RUNTIME_DIR:+\"$XDG_RUNTIME_DIR\"} ${TMPDIR:+\"$TMPDIR\"} /tmp; do rm -rf \"$d/birun-$1\"; done";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_stand_between_single_quotes_in_every_login_shell() {
        for text in [COMMAND, CLEANUP] {
            assert!(["'", "\n", "!", "\\\\"].iter().all(|bad| !text.contains(bad)), "{text}");
        }
        assert!(COMMAND.contains(&format!("/{DIRECTORY}$BIRUN_STEP_ID")));
        assert!(CLEANUP.contains(&format!("/{DIRECTORY}$1")));
    }
}
