//! The value of a credential, as given on the command line: in files, or typed.

use std::path::{Path, PathBuf};

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
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,

    /// A file that holds the password; - is stdin.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Ask for the password.
    #[arg(long, conflicts_with = "password_file")]
    password: bool,

    /// An answer to what the server asks at sign-in, from a file (- is stdin). The prompt may hold *
    /// and ?; the first that fits counts.
    #[arg(long = "answer", value_name = "PROMPT=@FILE")]
    answers: Vec<String>,

    /// A key that an ssh-agent holds, on the machine that birun works on: of the one that SSH_AUTH_SOCK
    /// named there when birun was started.
    #[arg(long)]
    agent: bool,

    /// The agent's socket, if it is another one.
    #[arg(long, value_name = "PATH", requires = "agent")]
    agent_socket: Option<String>,

    /// The key to use, SHA256:…; without it, the agent's keys are tried in their order, at most five.
    #[arg(long, value_name = "FINGERPRINT", requires = "agent")]
    agent_key: Option<String>,

    /// In which order several of these are tried: private_key, agent, keyboard_interactive, password;
    /// this one, if none is given. A server that wants more than one is given them in its own order.
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    order: Vec<String>,
}

impl SecretArgs {
    /// The value as the API takes it, if one is given.
    ///
    /// # Errors
    /// When a file cannot be read, or nobody can be asked.
    pub(crate) fn read(&self, ui: &Ui) -> CommandResult<Option<Value>> {
        let mut value = json!({});
        if let Some(path) = &self.key {
            self.read_key(ui, path, &mut value)?;
        }
        if let Some(path) = &self.certificate {
            put(&mut value, "certificate", json!(read_text(path)?));
        }
        if self.agent {
            put(&mut value, "agent", self.agent());
        }
        if !self.answers.is_empty() {
            let answers = self.answers.iter().map(|text| answer(text)).collect::<CommandResult<Vec<Value>>>()?;
            put(&mut value, "answers", json!(answers));
        }
        if let Some(path) = &self.password_file {
            put(&mut value, "password", json!(read_secret_file(path)?.expose()));
        } else if self.password {
            put(&mut value, "password", json!(ui.secret("password:", "--password-file FILE")?));
        }
        if !self.order.is_empty() {
            put(&mut value, "order", json!(self.order));
        }
        Ok((value != json!({})).then_some(value))
    }

    fn read_key(&self, ui: &Ui, path: &Path, value: &mut Value) -> CommandResult {
        let key = read_text(path)?;
        put(value, "private_key", json!(key));
        if let Some(file) = &self.passphrase_file {
            put(value, "passphrase", json!(read_secret_file(file)?.expose()));
        } else if is_encrypted_key(&key) {
            let question = format!("passphrase of {}:", path.display());
            let asked = ui.secret(&question, "--passphrase-file FILE");
            let answer = asked.map_err(|error| match error {
                CommandError::Failed(_) => CommandError::usage(format!("{} needs a passphrase", path.display()))
                    .hint("give it with  --passphrase-file FILE"),
                ended => ended,
            })?;
            put(value, "passphrase", json!(answer));
        }
        Ok(())
    }

    fn agent(&self) -> Value {
        let mut agent = json!({});
        for (field, given) in [("socket", &self.agent_socket), ("fingerprint", &self.agent_key)] {
            if let Some(given) = given {
                put(&mut agent, field, json!(given));
            }
        }
        agent
    }
}

/// A prompt, and the answer from its file. A text of another form is not repeated: it may be the answer.
fn answer(text: &str) -> CommandResult<Value> {
    let Some((prompt, file)) = text.rsplit_once("=@") else {
        return Err(CommandError::usage("--answer: it names no file")
            .hint("write  --answer 'PROMPT=@FILE',  with the answer in the file"));
    };
    Ok(json!({"prompt": prompt, "answer": read_secret_file(Path::new(file))?.expose()}))
}
