//! What runs a script's body.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::script::Content;

/// What some editors put before a text to say that it is UTF-8. To a shell, and to whoever looks for
/// `#!`, it is a part of the first word.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What runs a script's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interpreter {
    /// What the body's first line says (`#!…`), else `sh`.
    #[default]
    Shebang,
    /// `/bin/sh` of the target.
    Sh,
    /// `bash`, found in the target's path.
    Bash,
    /// `python3`, found in the target's path.
    Python3,
    /// A program by its absolute path; it is given the body as a file.
    Path(String),
}

/// How an interpreter is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// A name to be found in the path, or an absolute path.
    pub program: String,
    /// At most one argument before the script, as in a `#!` line.
    pub argument: Option<String>,
}

impl Invocation {
    fn plain(program: &str) -> Self {
        Self { program: program.to_owned(), argument: None }
    }

    /// Whether this is a POSIX shell that birun knows to evaluate text given to it.
    #[must_use]
    pub fn is_shell(&self) -> bool {
        self.argument.is_none()
            && matches!(self.program.as_str(), "sh" | "bash" | "/bin/sh" | "/bin/bash" | "/usr/bin/bash")
    }
}

impl Interpreter {
    /// How to run this body.
    ///
    /// # Errors
    /// `invalid` for a `#!` line that is not UTF-8 text with an absolute path, and for a byte order mark
    /// that a shell would take for a part of the first word; other programs are given it with the rest.
    pub fn invocation(&self, content: &Content) -> Result<Invocation> {
        if matches!(self, Self::Shebang | Self::Sh | Self::Bash) && content.as_str().starts_with(BYTE_ORDER_MARK) {
            return Err(marked());
        }
        match self {
            Self::Shebang => match content.as_str().strip_prefix("#!") {
                Some(rest) => parse_shebang(rest.lines().next().unwrap_or_default()),
                None => Ok(Invocation::plain("sh")),
            },
            Self::Sh => Ok(Invocation::plain("sh")),
            Self::Bash => Ok(Invocation::plain("bash")),
            Self::Python3 => Ok(Invocation::plain("python3")),
            Self::Path(path) => Ok(Invocation::plain(path)),
        }
    }
}

fn marked() -> Error {
    Error::invalid_field("content", "begins with a byte order mark (BOM), which hides the first line from the shell")
        .with_hint(r"save it as UTF-8 without BOM, or take the mark away with  sed -i '1s/^\xEF\xBB\xBF//' FILE")
}

/// Reads a `#!` line as Linux does: a path, then everything else as one argument; `env NAME` is
/// the one form that stands for a search in the path.
fn parse_shebang(line: &str) -> Result<Invocation> {
    let line = line.trim();
    let (program, argument) = match line.split_once([' ', '\t']) {
        Some((program, argument)) => (program, Some(argument.trim())),
        None => (line, None),
    };
    if !program.starts_with('/') || line.chars().any(char::is_control) {
        return Err(Error::invalid_field("content", format!("`#!{}` names no absolute path", line.escape_default()))
            .with_hint("begin with a line such as #!/bin/sh or #!/usr/bin/env python3, or name an interpreter"));
    }
    if matches!(program, "/usr/bin/env" | "/bin/env")
        && let Some(name) = argument.filter(|name| is_plain(name))
    {
        return Ok(Invocation::plain(name));
    }
    Ok(Invocation { program: program.to_owned(), argument: argument.map(str::to_owned) })
}

fn is_plain(name: &str) -> bool {
    !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'))
}

impl FromStr for Interpreter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "shebang" => Ok(Self::Shebang),
            "sh" => Ok(Self::Sh),
            "bash" => Ok(Self::Bash),
            "python3" => Ok(Self::Python3),
            path if path.starts_with('/') && path.len() <= 4096 && !path.chars().any(char::is_control) => {
                Ok(Self::Path(path.to_owned()))
            }
            _ => Err(Error::invalid_field("interpreter", format!("`{}` is no interpreter", text.escape_default()))
                .with_hint("use shebang, sh, bash, python3 or an absolute path")),
        }
    }
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shebang => "shebang",
            Self::Sh => "sh",
            Self::Bash => "bash",
            Self::Python3 => "python3",
            Self::Path(path) => path,
        })
    }
}

impl serde::Serialize for Interpreter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Interpreter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(body: &str) -> Result<(String, Option<String>)> {
        let found = Interpreter::Shebang.invocation(&Content::new(body).unwrap())?;
        Ok((found.program, found.argument))
    }

    #[test]
    fn shebang_lines() {
        let owned = |program: &str, argument: Option<&str>| (program.to_owned(), argument.map(str::to_owned));
        for (body, expected) in [
            ("echo hi", owned("sh", None)),
            ("#!/bin/sh\necho hi", owned("/bin/sh", None)),
            ("#! /bin/sh -eu\n", owned("/bin/sh", Some("-eu"))),
            ("#!/usr/bin/env python3\n", owned("python3", None)),
            ("#!/usr/bin/env -S python3 -u\n", owned("/usr/bin/env", Some("-S python3 -u"))),
            ("#!/usr/bin/awk -f\r\n", owned("/usr/bin/awk", Some("-f"))),
        ] {
            assert_eq!(invocation(body).unwrap(), expected, "{body:?}");
        }
        for bad in ["#!python3\n", "#!\n", "#!/bin/\x1bsh\n"] {
            assert!(invocation(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_refused_where_it_hides_the_first_line() {
        for (interpreter, refused) in
            [("shebang", true), ("sh", true), ("bash", true), ("python3", false), ("/opt/ruby/bin/ruby", false)]
        {
            let interpreter: Interpreter = interpreter.parse().unwrap();
            for body in ["\u{feff}#!/usr/bin/env python3\nprint(1)", "\u{feff}echo 1"] {
                let found = interpreter.invocation(&Content::new(body).unwrap());
                assert_eq!(found.is_err(), refused, "{interpreter} {body:?}");
                assert!(found.err().is_none_or(|error| error.hint().is_some()));
            }
        }
    }

    #[test]
    fn an_interpreter_has_one_text() {
        for text in ["shebang", "sh", "bash", "python3", "/opt/ruby/bin/ruby"] {
            assert_eq!(text.parse::<Interpreter>().unwrap().to_string(), text);
        }
        for bad in ["", "ruby", "./x", "/bin/sh\n"] {
            assert!(bad.parse::<Interpreter>().is_err(), "{bad:?}");
        }
    }
}
