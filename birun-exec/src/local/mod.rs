//! Programs on the machine that the engine runs on.

mod ending;
mod environment;
mod executor;
mod machine;
#[cfg(target_os = "linux")]
mod proc_fs;
#[cfg(not(target_os = "linux"))]
#[path = "no_proc_fs.rs"]
mod proc_fs;
mod processes;
mod program;
mod pump;
mod spawn;
mod tree;

pub use executor::LocalExecutor;
