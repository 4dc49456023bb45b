//! Which birun a command talks to.

use birun_core::testing::harness::Suite;

use crate::birun::Home;

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("config_show_tells_where_a_setting_comes_from", &[], origins);
    suite.plain("a_context_names_a_server_and_its_token", &[], context);
    suite.plain("an_unknown_context_is_told_with_those_that_there_are", &[], unknown_context);
    suite.plain("flags_that_contradict_each_other_are_refused", &[], contradiction);
}

fn origins() {
    let home = Home::new();
    home.config("output = 'yaml'\nrequest_timeout = '5s'\n");
    home.file("birun.toml", "color = 'never'\n");
    let env = [("BIRUN_DATABASE_URL", "postgres://ana:hunter2@db/birun")];
    let shown = home.run_with(&["config", "show", "--origin", "-o", "table"], &env, "").text();
    for (setting, value, origin) in [
        ("output", "table", "flag --output"),
        ("color", "never", "file birun.toml"),
        ("request_timeout", "5s", ".config/birun/config.toml"),
        ("database_url", "postgres://ana:***@db/birun", "environment BIRUN_DATABASE_URL"),
        ("context", "local", "default"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(setting)).unwrap_or_else(|| panic!("{setting}: {shown}"));
        assert!(line.contains(value) && line.ends_with(origin), "{line}");
    }
    assert!(!shown.contains("hunter2"));
}

fn context() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let client = Home::new();
    let address = &serve.address;
    client.config(&format!("context = 'prod'\n[contexts.prod]\nserver = '{address}'\ntoken_file = 'token'\n"));
    let token = client.work().join("../.config/birun/token");
    std::fs::write(token, format!("{}\n", serve.token)).expect("a file");
    client.ok(&["group", "create", "db"]);
    assert_eq!(home.ok(&["group", "list", "-o", "name"]), "db\n");
    assert_eq!(client.ok(&["--context", "local", "group", "list", "-o", "name"]), "");
    assert!(client.ok(&["config", "show"]).contains("prod"));
}

fn unknown_context() {
    let home = Home::new();
    home.run(&["--context", "prod", "status"]).fails(
        &home,
        2,
        "error: no context `prod`\n\nhint: there is local; contexts stand in <home>/.config/birun/config.toml\n",
    );
}

fn contradiction() {
    let home = Home::new();
    let ended = home.run(&["--server", "http://127.0.0.1:1", "--data-dir", "/tmp", "status"]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.err.contains("cannot be used with"), "{ended:#?}");
}
