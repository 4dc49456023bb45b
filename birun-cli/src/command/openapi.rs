//! `birun openapi`

use clap::Args;

use crate::error::CommandResult;
use crate::ui::Ui;

/// Print the description of the HTTP API: OpenAPI 3, in JSON.
#[derive(Debug, Args)]
pub(crate) struct OpenapiArgs {}

pub(crate) fn run(ui: &Ui, _args: OpenapiArgs) -> CommandResult {
    ui.line(birun_http::openapi_document("").trim_end())
}
