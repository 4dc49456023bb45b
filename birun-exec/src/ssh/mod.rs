//! Work on servers, over SSH.
//!
//! The way of a run: `pool` gives a connection, made by `approach` and `sign_in` if none is
//! kept; `run` opens a channel and starts the bootstrap text, `listen` sends the script over stdin and
//! streams the output, `verdict` judges the end; `detached` does so for runs that outlive their connection; `stop` ends a run before that, and `kill` any processes,
//! through a connection of its own.

mod agent;
mod algorithms;
mod approach;
mod blocking;
mod certificate;
mod channel;
mod connection;
mod detached;
mod dial;
mod executor;
mod host_key;
mod interactive;
mod keys;
mod kill;
mod listen;
mod peer;
mod phase;
mod pool;
mod probe;
mod run;
mod sign_in;
mod stop;
mod verdict;
mod wire;

#[cfg(feature = "testing")]
pub(crate) use detached::detached_text;
pub use executor::{SshBuilder, SshExecutor};
#[cfg(feature = "testing")]
pub(crate) use host_key::offered;
pub use keys::SshKeys;
pub use phase::SshLimits;
#[cfg(any(test, feature = "testing"))]
pub(crate) use wire::{Ear, Next};
