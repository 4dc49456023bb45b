//! How a program reaches its interpreter: the same way locally and over SSH.
//!
//! A shell is started with a constant text, [`shell::COMMAND`], and the id of the step. Everything else
//! (variables, interpreter, body) travels over its stdin, so that nothing of it is ever part of a
//! command line, neither as something to be evaluated nor as something that `ps` shows:
//!
//! ```text
//! LIMIT=80                 a variable …
//! MESSAGE=first line
//! +second line             … whose value may go on
//! @program=python3         birun's own items: the interpreter,
//! @argument=-u             its argument,
//! @body=print(1)           the body, where it is small
//! +print(2)
//! .                        the end of the header; a large body follows, and the line `.<step id>`
//! ```
//!
//! No value is quoted or evaluated on the way. A shell's body is evaluated by the very shell that
//! read it; any other interpreter is given the body as a file in a fresh directory of its own,
//! [`DIRECTORY`]`<step id>`, which the executor removes when the program has ended. The program's
//! own stdin is `/dev/null`.
//!
//! The shell says on stderr when the program begins, or why it cannot: see [`Opening`]. What was
//! cut short on the way is refused, never run.

mod input;
mod opening;
mod shell;
mod sign;

pub(crate) use input::{Bootstrap, cleanup_line, line};
pub(crate) use opening::{Opening, Start};
pub(crate) use shell::DIRECTORY;
pub(crate) use sign::Sign;
