//! `birun admin rekey`

use clap::Args;
use serde_json::Value;

use crate::args::DryRun;
use crate::client::Request;
use crate::config::Reach;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::local::Rotation;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun admin rekey                          with birun's own key file: nothing else is to be done
  birun admin rekey --server https://birun.example.com

Where birun does not keep the key itself, or a server or a worker runs: add a new key as the first
line of the master key, everywhere, and leave the old one below it; restart every birun that works
with it; run this; then remove the old line.";

/// Rotate the master key: seal every secret anew under a new one.
///
/// Everything else goes on meanwhile. When it is interrupted, even by kill -9, the next call goes on
/// with the rest.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Rekey {
    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: Rekey) -> CommandResult {
    let rotation = match ctx.settings.reach {
        Reach::Local => Rotation::open(&ctx.settings)?,
        Reach::Server { .. } => None,
    };
    match rotation {
        Some(rotation) => rotate(ui, ctx, rotation, args.dry_run.dry_run).await,
        None => elsewhere(ui, ctx, args.dry_run.dry_run).await,
    }
}

/// Rotates keys that are here.
async fn rotate(ui: &Ui, ctx: &Context, mut rotation: Rotation, dry_run: bool) -> CommandResult {
    let resumed = rotation.has_begun();
    if resumed {
        rotation.is_known_to_all().await?;
    } else {
        rotation.may_begin().await?;
    }
    if dry_run {
        if !resumed {
            ui.note(&format!("a new key would be added as the first line of {}", rotation.place()));
        }
        return ui.value(&request().preview()?);
    }
    if !resumed {
        rotation.begin()?;
        // Someone may have started between the look and the new key.
        rotation.is_known_to_all().await?;
    }
    let rekeyed = reseal(ctx).await?;
    let removed = rotation.finish()?;
    tell(ui, &rekeyed, |resealed| {
        let place = rotation.place();
        match (resumed, removed) {
            (false, _) => {
                format!("sealed {resealed} values anew under a new master key in {place}; the old one is removed")
            }
            (true, true) => format!(
                "sealed {resealed} values anew and ended the rotation that had begun; the old key is removed from {place}"
            ),
            (true, false) => format!(
                "sealed {resealed} values anew; nothing is left under the old key: remove it from {place}, everywhere"
            ),
        }
    })
}

/// Has a server seal anew whose keys are not here.
async fn elsewhere(ui: &Ui, ctx: &Context, dry_run: bool) -> CommandResult {
    if dry_run {
        return ui.value(&request().preview()?);
    }
    let rekeyed = reseal(ctx).await?;
    tell(ui, &rekeyed, |resealed| {
        if resealed == 0 {
            return "nothing is sealed under another key than the newest one that the server has".to_owned();
        }
        format!("sealed {resealed} values anew; nothing is left under the old key: remove it where the server reads it")
    })?;
    if count(&rekeyed, "resealed") == 0 {
        ui.hint(
            "to rotate it, add a new key as the first line where the server reads it, restart it, and run this again",
        );
    }
    Ok(())
}

fn request() -> Request {
    Request::act(["admin", "rekey"]).patient()
}

/// Has everything sealed anew.
async fn reseal(ctx: &Context) -> CommandResult<Value> {
    let rekeyed = ctx.client().await?.send(request()).await?;
    match count(&rekeyed, "left") {
        0 => Ok(rekeyed),
        left => Err(CommandError::failed(format!(
            "{left} values stay under another key, and {} were sealed anew",
            count(&rekeyed, "resealed")
        ))
        .hint("add the key that they are under as a further line, and run  birun admin rekey  again; the old keys are kept")),
    }
}

fn tell(ui: &Ui, rekeyed: &Value, words: impl FnOnce(u64) -> String) -> CommandResult {
    if !ui.format().is_for_people() {
        return ui.value(rekeyed);
    }
    ui.note(&words(count(rekeyed, "resealed")));
    Ok(())
}

fn count(rekeyed: &Value, field: &str) -> u64 {
    rekeyed.get(field).and_then(Value::as_u64).unwrap_or(0)
}
