//! `birun admin migrate`

use clap::Args;

use crate::config::Reach;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::local::{DataDir, connect_store};
use crate::ui::Ui;

/// Bring the database to the schema of this version. What is there stays.
///
/// birun's own file in the data directory is brought there without being asked; a PostgreSQL
/// database waits for this command.
#[derive(Debug, Args)]
pub(crate) struct Migrate {}

pub(crate) async fn run(ui: &Ui, ctx: &Context, _args: Migrate) -> CommandResult {
    if ctx.settings.reach != Reach::Local {
        return Err(CommandError::usage("a database is migrated where it can be reached, not through a server")
            .hint("name it with  --database-url  or BIRUN_DATABASE_URL"));
    }
    let dir = DataDir::at(&ctx.settings.data_dir.value);
    dir.create()?;
    connect_store(&ctx.settings, &dir).await?.migrate().await?;
    ui.note("the database has the schema of this version");
    Ok(())
}
