//! Which setting counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use birun_core::vault::Secret;
use reqwest::Url;

use super::{Env, Origin, Paths, ProjectFile, Setting, UserFile};
use crate::error::{CommandError, CommandResult};
use crate::ui::{ColorChoice, Format};

/// The context that needs no server.
pub(crate) const LOCAL: &str = "local";
/// How long a request may take unless someone says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the command line says about settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) output: Option<Format>,
    pub(crate) color: Option<ColorChoice>,
    pub(crate) context: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) database_url: Option<String>,
    pub(crate) request_timeout: Option<Duration>,
}

/// Whether a command honours `DATABASE_URL`. It stands in most developers' shells for another
/// application, so that only commands that are about a database do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseUse {
    Direct,
    Client,
}

/// Whom the command talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// birun's own files on this machine.
    Local,
    /// A server.
    Server { address: String, token: TokenSource },
}

/// Where the token for a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// It was given.
    Given(Secret),
    /// In a file.
    File(PathBuf),
    /// Nobody said; the server may be the one that runs on the data directory.
    Unknown,
}

/// Where the master key is.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// It was given.
    Given(Secret),
    /// In a file, which must exist.
    File(PathBuf),
    /// In the data directory.
    DataDir,
}

/// Every setting of a command.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The name of the context; `None` for an address that was given directly.
    pub(crate) context: Setting<Option<String>>,
    pub(crate) reach: Reach,
    pub(crate) data_dir: Setting<PathBuf>,
    /// `None`: the data directory's own file.
    pub(crate) database_url: Setting<Option<String>>,
    pub(crate) output: Setting<Format>,
    pub(crate) color: Setting<ColorChoice>,
    pub(crate) request_timeout: Setting<Duration>,
    pub(crate) key: KeySource,
    /// The socket of the ssh-agent that signs for credentials that name none.
    pub(crate) agent: Option<PathBuf>,
}

/// Whether a database URL holds a password, in its authority or its query.
fn holds_password(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"))
}

/// A database URL as it can be shown.
pub(crate) fn without_password(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return "***".to_owned() };
    if !holds_password(url) {
        return url.to_owned();
    }
    if parsed.password().is_some() {
        parsed.set_password(Some("***")).ok();
    }
    let pairs: Vec<(String, String)> = parsed.query_pairs().into_owned().collect();
    if !pairs.is_empty() {
        let shown = pairs.iter().map(|(name, value)| (name, if name == "password" { "***" } else { value }));
        parsed.query_pairs_mut().clear().extend_pairs(shown);
    }
    parsed.to_string()
}

/// Everything that settings are made from.
struct Layers<'a> {
    flags: &'a Flags,
    env: &'a Env,
    paths: &'a Paths,
    project: ProjectFile,
    user: UserFile,
}

impl Settings {
    /// The database that is worked on, as it can be shown; `None` is the file in the data directory.
    pub(crate) fn database(&self) -> Option<String> {
        self.database_url.value.as_deref().map(without_password)
    }

    /// Reads the files and works out what counts.
    ///
    /// # Errors
    /// When a file or a value cannot be understood, or a context is not known.
    pub(crate) fn read(flags: &Flags, env: &Env, paths: &Paths, database: DatabaseUse) -> CommandResult<Self> {
        let project = ProjectFile::read(&paths.project_file)?;
        let user = UserFile::read(&paths.user_file)?;
        Layers { flags, env, paths, project, user }.resolve(database)
    }
}

impl Layers<'_> {
    fn resolve(self, database: DatabaseUse) -> CommandResult<Settings> {
        let context = self.context();
        Ok(Settings {
            reach: self.reach(context.value.as_deref())?,
            context,
            data_dir: self.data_dir(),
            database_url: self.database_url(database)?,
            output: self.output()?,
            color: self.color()?,
            request_timeout: self.request_timeout()?,
            key: self.key(),
            agent: self.env.get("SSH_AUTH_SOCK").map(PathBuf::from),
        })
    }

    /// Which context: naming an address or files of this machine on the command line is choosing too.
    fn context(&self) -> Setting<Option<String>> {
        let local = || Some(Some(LOCAL.to_owned()));
        let flags = self.flags;
        Setting::first(
            [
                (flags.server.is_some().then_some(None), Origin::Flag("--server")),
                (flags.context.clone().map(Some), Origin::Flag("--context")),
                (flags.data_dir.as_ref().and_then(|_| local()), Origin::Flag("--data-dir")),
                (flags.database_url.as_ref().and_then(|_| local()), Origin::Flag("--database-url")),
                (self.env.get("BIRUN_SERVER").map(|_| None), Origin::Env("BIRUN_SERVER")),
                (self.env.get("BIRUN_CONTEXT").map(|name| Some(name.to_owned())), Origin::Env("BIRUN_CONTEXT")),
                (self.user.context.clone().map(Some), self.user_file()),
            ],
            Some(LOCAL.to_owned()),
        )
    }

    fn reach(&self, context: Option<&str>) -> CommandResult<Reach> {
        let token = self.env.get("BIRUN_TOKEN").map(|token| TokenSource::Given(Secret::new(token)));
        match context {
            Some(LOCAL) => Ok(Reach::Local),
            Some(name) => {
                let entry = self.user.contexts.get(name).ok_or_else(|| self.unknown_context(name))?;
                let file = entry.token_file.as_deref().map(|file| self.beside_user_file(file));
                let token = token.or(file.map(TokenSource::File)).unwrap_or(TokenSource::Unknown);
                Ok(Reach::Server { address: entry.server.clone(), token })
            }
            None => {
                let given = self.flags.server.as_deref().or_else(|| self.env.get("BIRUN_SERVER"));
                let address = given.unwrap_or_default().to_owned();
                Ok(Reach::Server { address, token: token.unwrap_or(TokenSource::Unknown) })
            }
        }
    }

    fn unknown_context(&self, name: &str) -> CommandError {
        let known: Vec<&str> = self.user.contexts.keys().map(String::as_str).collect();
        let known = if known.is_empty() { LOCAL.to_owned() } else { format!("{LOCAL}, {}", known.join(", ")) };
        CommandError::usage(format!("no context `{name}`"))
            .hint(format!("there is {known}; contexts stand in {}", self.paths.user_file.display()))
    }

    /// A relative path in the user's file is meant from where that file is.
    fn beside_user_file(&self, file: &Path) -> PathBuf {
        self.paths.user_file.parent().map_or_else(|| file.to_owned(), |dir| dir.join(file))
    }

    fn data_dir(&self) -> Setting<PathBuf> {
        Setting::first(
            [
                (self.flags.data_dir.clone(), Origin::Flag("--data-dir")),
                (self.env.get("BIRUN_DATA_DIR").map(PathBuf::from), Origin::Env("BIRUN_DATA_DIR")),
                (self.user.data_dir.clone(), self.user_file()),
            ],
            self.paths.data_dir.clone(),
        )
    }

    fn database_url(&self, database: DatabaseUse) -> CommandResult<Setting<Option<String>>> {
        if self.flags.database_url.as_deref().is_some_and(holds_password) {
            let told = "everyone on this machine can read a command line, and a password does not belong there";
            return Err(CommandError::usage(told).hint("give the URL in BIRUN_DATABASE_URL, or in your config file"));
        }
        let env = |name| self.env.get(name).map(|url| Some(url.to_owned()));
        let common = env("DATABASE_URL").filter(|_| database == DatabaseUse::Direct);
        Ok(Setting::first(
            [
                (self.flags.database_url.clone().map(Some), Origin::Flag("--database-url")),
                (env("BIRUN_DATABASE_URL"), Origin::Env("BIRUN_DATABASE_URL")),
                (common, Origin::Env("DATABASE_URL")),
                (self.user.database_url.clone().map(Some), self.user_file()),
            ],
            None,
        ))
    }

    fn output(&self) -> CommandResult<Setting<Format>> {
        Ok(Setting::first(
            [
                (self.flags.output, Origin::Flag("--output")),
                (self.env_value("BIRUN_OUTPUT")?, Origin::Env("BIRUN_OUTPUT")),
                (self.project.output, self.project_file()),
                (self.user.output, self.user_file()),
            ],
            Format::default(),
        ))
    }

    fn color(&self) -> CommandResult<Setting<ColorChoice>> {
        Ok(Setting::first(
            [
                (self.flags.color, Origin::Flag("--color")),
                (self.env_value("BIRUN_COLOR")?, Origin::Env("BIRUN_COLOR")),
                (self.env.get("NO_COLOR").map(|_| ColorChoice::Never), Origin::Env("NO_COLOR")),
                (self.project.color, self.project_file()),
                (self.user.color, self.user_file()),
            ],
            ColorChoice::default(),
        ))
    }

    fn request_timeout(&self) -> CommandResult<Setting<Duration>> {
        let parse = |text: &Option<String>| text.as_deref().map(birun_core::duration::parse).transpose();
        Ok(Setting::first(
            [
                (self.flags.request_timeout, Origin::Flag("--request-timeout")),
                (parse(&self.project.request_timeout)?, self.project_file()),
                (parse(&self.user.request_timeout)?, self.user_file()),
            ],
            REQUEST_TIMEOUT,
        ))
    }

    fn key(&self) -> KeySource {
        if let Some(key) = self.env.get("BIRUN_MASTER_KEY") {
            return KeySource::Given(Secret::new(key));
        }
        self.env.get("BIRUN_MASTER_KEY_FILE").map_or(KeySource::DataDir, |file| KeySource::File(PathBuf::from(file)))
    }

    fn env_value<T: clap::ValueEnum>(&self, name: &'static str) -> CommandResult<Option<T>> {
        let parse = |text: &str| T::from_str(text, false);
        self.env
            .get(name)
            .map(parse)
            .transpose()
            .map_err(|_| CommandError::usage(format!("{name} has a value that birun does not know")))
    }

    fn user_file(&self) -> Origin {
        Origin::File(self.paths.user_file.clone())
    }

    fn project_file(&self) -> Origin {
        Origin::File(self.paths.project_file.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        flags: Flags,
        env: Env,
        user: &'static str,
        project: &'static str,
    }

    impl Case {
        fn of(env: &[(&'static str, &str)], user: &'static str) -> Self {
            Self { flags: Flags::default(), env: Env::of(env), user, project: "" }
        }

        fn read(&self, database: DatabaseUse) -> CommandResult<Settings> {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths {
                user_file: dir.path().join("config.toml"),
                project_file: dir.path().join("birun.toml"),
                data_dir: PathBuf::from("/home/ana/.local/share/birun"),
            };
            std::fs::write(&paths.user_file, self.user).unwrap();
            std::fs::write(&paths.project_file, self.project).unwrap();
            Settings::read(&self.flags, &self.env, &paths, database)
        }

        fn client(&self) -> Settings {
            self.read(DatabaseUse::Client).unwrap()
        }
    }

    const PROD: &str = "context = 'prod'\noutput = 'yaml'\n[contexts.prod]\nserver = 'https://birun.example.com'\n";

    #[test]
    fn nothing_said_is_the_local_context() {
        let settings = Case::of(&[], "").client();
        assert_eq!(settings.reach, Reach::Local);
        assert_eq!(settings.context, Setting { value: Some(LOCAL.to_owned()), origin: Origin::Default });
        assert_eq!(settings.request_timeout.value, REQUEST_TIMEOUT);
    }

    #[test]
    fn a_flag_counts_more_than_the_environment_and_that_more_than_files() {
        let mut case = Case::of(&[("BIRUN_OUTPUT", "json")], PROD);
        case.project = "output = 'wide'";
        assert_eq!(case.client().output.origin, Origin::Env("BIRUN_OUTPUT"));
        case.flags.output = Some(Format::Name);
        assert_eq!(case.client().output, Setting { value: Format::Name, origin: Origin::Flag("--output") });
        case.flags.output = None;
        case.env = Env::default();
        assert_eq!(case.client().output.value, Format::Wide);
        case.project = "";
        assert_eq!(case.client().output.value, Format::Yaml);
    }

    #[test]
    fn an_address_or_a_data_directory_on_the_command_line_chooses_the_context() {
        let mut case = Case::of(&[("BIRUN_TOKEN", "t")], PROD);
        let server =
            |address: &str| Reach::Server { address: address.to_owned(), token: TokenSource::Given(Secret::new("t")) };
        assert_eq!(case.client().reach, server("https://birun.example.com"));
        case.env = Env::of(&[("BIRUN_SERVER", "http://127.0.0.1:1"), ("BIRUN_TOKEN", "t")]);
        assert_eq!(case.client().reach, server("http://127.0.0.1:1"));
        case.flags.data_dir = Some(PathBuf::from("/srv/birun"));
        assert_eq!(case.client().reach, Reach::Local);
        assert_eq!(case.client().data_dir.origin, Origin::Flag("--data-dir"));
    }

    #[test]
    fn only_commands_about_a_database_honour_the_common_variable() {
        let case = Case::of(&[("DATABASE_URL", "postgres://other")], "");
        assert_eq!(case.client().database_url.value, None);
        let direct = case.read(DatabaseUse::Direct).unwrap();
        assert_eq!(direct.database_url.value.as_deref(), Some("postgres://other"));
    }

    #[test]
    fn an_unknown_context_is_told_with_those_that_there_are() {
        let mut case = Case::of(&[], PROD);
        case.flags.context = Some("pord".to_owned());
        let CommandError::Failed(failure) = case.read(DatabaseUse::Client).unwrap_err() else { panic!("silent") };
        assert_eq!(failure.message, "no context `pord`");
        assert!(failure.hints[0].starts_with("there is local, prod;"), "{:?}", failure.hints);
    }

    #[test]
    fn a_password_in_a_database_url_is_not_shown() {
        for (url, shown) in [
            ("postgres://ana:hunter2@db/birun", "postgres://ana:***@db/birun"),
            ("postgres://db/birun?user=ana&password=hunter2", "postgres://db/birun?user=ana&password=***"),
            ("sqlite:///srv/birun.db", "sqlite:///srv/birun.db"),
        ] {
            assert_eq!(without_password(url), shown);
            assert_eq!(holds_password(url), shown.contains("***"));
        }
    }

    #[test]
    fn settings_print_no_secret() {
        let case = Case::of(&[("BIRUN_TOKEN", "hunter2"), ("BIRUN_MASTER_KEY", "hunter2"), ("BIRUN_SERVER", "x")], "");
        assert!(!format!("{:?} {:?}", case.client(), case.env).contains("hunter2"));
    }
}
