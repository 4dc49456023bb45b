//! The peer over SSH: russh as it comes, with nothing around it.

use std::borrow::Cow;
use std::sync::Arc;

use birun_exec::testing::Sshd;
use bytes::Bytes;
use russh::client::{self, Config, Handle, Handler};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect, Preferred, cipher, kex};

use crate::Outcome;

/// A signed-in connection.
pub(crate) struct Bare(Handle<Trusting>);

/// Takes every host key.
struct Trusting;

impl Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Bare {
    /// Connects and signs in, with the algorithms that birun asks for first.
    pub(crate) async fn connect(sshd: &Sshd) -> Outcome<Self> {
        let preferred = Preferred {
            kex: Cow::Borrowed(&[
                kex::CURVE25519,
                kex::EXTENSION_SUPPORT_AS_CLIENT,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            ]),
            cipher: Cow::Borrowed(&[cipher::AES_256_GCM]),
            ..Preferred::DEFAULT
        };
        let config = Arc::new(Config { preferred, nodelay: true, ..Config::default() });
        let mut handle = client::connect(config, ("127.0.0.1", sshd.port()), Trusting).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(sshd.client_key().clone()), None);
        let answer = handle.authenticate_publickey(sshd.user(), key).await?;
        if answer.success() { Ok(Self(handle)) } else { Err("the bare client may not sign in".into()) }
    }

    /// Runs a command with this on its stdin, to the end of its channel; tells how many bytes it wrote.
    pub(crate) async fn run(&self, command: &str, input: &[u8]) -> Outcome<usize> {
        let mut channel = self.0.channel_open_session().await?;
        channel.exec(true, command).await?;
        if !input.is_empty() {
            channel.data_bytes(Bytes::copy_from_slice(input)).await?;
        }
        channel.eof().await?;
        let (mut bytes, mut status) = (0, None);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => bytes += data.len(),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
        }
        if status == Some(0) { Ok(bytes) } else { Err(format!("the bare command ended with {status:?}").into()) }
    }

    pub(crate) async fn leave(self) -> Outcome {
        self.0.disconnect(Disconnect::ByApplication, "", "").await?;
        Ok(())
    }
}
