//! The value of a credential, as given on the command line: in files, or typed.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::error::{CommandError, CommandResult};
use crate::input::put;
use crate::input::{is_encrypted_key, read_secret_file, read_text};
use crate::ui::Ui;

/// The value of a credential.
#[derive(Clone, Debug, Args)]
pub(crate) struct SecretArgs {
    /// A private key file, in OpenSSH or PEM form.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// A file that holds the key's passphrase; without it, birun asks for it.
    #[arg(long, value_name = "FILE", requires = "key")]
    passphrase_file: Option<PathBuf>,

    /// An OpenSSH user certificate for the key: the file that ends in -cert.pub.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "password"])]
    certificate: Option<PathBuf>,

    /// A file that holds the password; - is stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    password_file: Option<PathBuf>,

    /// Ask for the password.
    #[arg(long, conflicts_with_all = ["key", "password_file"])]
    password: bool,
}

impl SecretArgs {
    /// The value as the API takes it, if one is given.
    ///
    /// # Errors
    /// When a file cannot be read, or nobody can be asked.
    pub(crate) fn read(&self, ui: &Ui) -> CommandResult<Option<Value>> {
        if let Some(path) = &self.password_file {
            return Ok(Some(json!({"password": read_secret_file(path)?.expose()})));
        }
        if self.password {
            return Ok(Some(json!({"password": ui.secret("password:", "--password-file FILE")?})));
        }
        let mut value = json!({});
        if let Some(path) = &self.certificate {
            put(&mut value, "certificate", json!(read_text(path)?));
        }
        let Some(path) = &self.key else { return Ok(self.certificate.is_some().then_some(value)) };
        let key = read_text(path)?;
        put(&mut value, "private_key", json!(key));
        if let Some(file) = &self.passphrase_file {
            put(&mut value, "passphrase", json!(read_secret_file(file)?.expose()));
        } else if is_encrypted_key(&key) {
            let question = format!("passphrase of {}:", path.display());
            let asked = ui.secret(&question, "--passphrase-file FILE");
            let answer = asked.map_err(|error| match error {
                CommandError::Failed(_) => CommandError::usage(format!("{} needs a passphrase", path.display()))
                    .hint("give it with  --passphrase-file FILE"),
                ended => ended,
            })?;
            put(&mut value, "passphrase", json!(answer));
        }
        Ok(Some(value))
    }
}
