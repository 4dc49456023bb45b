//! `birun admin rekey`: the rotation of the master key.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use birun_core::engine::Engine;
use birun_core::inventory::{Credential, NewCredential, OpenCredential};
use birun_core::page::PageRequest;
use birun_core::testing::harness::{Need, Suite};
use birun_core::vault::{MasterKey, Place, Secret, Vault};
use birun_exec::testing::Sshd;
use birun_store::SqlStore;

use crate::birun::Home;
use crate::ssh::Fleet;

/// What must not be found anywhere.
const CANARY: &str = "correct-horse-battery-staple";
/// Credentials in the store that is killed over and over.
const COUNT: usize = 300;
const ROUNDS: u32 = 10;

pub(crate) fn add(suite: &mut Suite) {
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    suite.plain("rekey_rotates_the_key_of_the_data_directory", &sshd, whole_way);
    suite.plain("rekey_that_only_looks_changes_nothing", &[], dry_run);
    suite.plain("rekey_of_a_given_key_says_what_to_do", &[], given);
    suite.plain("rekey_goes_through_the_server_once_it_has_the_new_key", &[], served);
    suite.plain("rekey_waits_for_no_worker_with_the_old_key", &[], worker);
    suite.test("rekey_survives_a_kill_at_any_moment", &[], killed);
}

fn key_lines(home: &Home) -> Vec<String> {
    let text = std::fs::read_to_string(home.data().join("birun.key")).expect("the key is there");
    text.lines().map(str::to_owned).collect()
}

fn new_key() -> String {
    MasterKey::generate().expect("a key").to_text().expose().to_owned()
}

/// Asserts that nothing below the data directory holds these bytes.
#[track_caller]
fn is_nowhere(home: &Home, needle: &[u8]) {
    for (path, bytes) in home.data_bytes() {
        let found = bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!found, "{} holds what must not be there", path.display());
    }
}

/// Asserts that nothing below the data directory is sealed under this key, and that the key is not there itself.
#[track_caller]
fn is_forgotten(home: &Home, key: &str) {
    is_nowhere(home, key.as_bytes());
    is_nowhere(home, &Vault::new(MasterKey::parse(key).expect("a key")).mark());
}

#[track_caller]
fn old_key_is_refused(home: &Home, key: &str) {
    let ended = home.run_with(&["server", "list"], &[("BIRUN_MASTER_KEY", key)], "");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.err.contains("add the new key as the first line"), "{ended:#?}");
}

fn whole_way() {
    let fleet = Fleet::new();
    fleet.add("web-1", "prod");
    let home = &fleet.home;
    home.file("token", CANARY);
    home.ok(&["run", "-q", &home.file("show.sh", "echo ${#TOKEN}"), "-p", "TOKEN=@token"]);
    let mut known = key_lines(home);
    for _ in 0..2 {
        let old = known.last().expect("a key").clone();
        let ended = home.run(&["admin", "rekey"]);
        ended.fails(
            home,
            0,
            "sealed 3 values anew under a new master key in <home>/.local/share/birun/birun.key; the old one is removed\n",
        );
        let lines = key_lines(home);
        assert!(lines.len() == 1 && !known.contains(&lines[0]));
        let mode = home.data().join("birun.key").metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        home.ok(&["server", "test", "web-1"]);
        old_key_is_refused(home, &old);
        is_forgotten(home, &old);
        known.extend(lines);
        assert!(known.iter().all(|key| !ended.err.contains(key) && !ended.text().contains(key)));
    }
    let id = home.ok(&["execution", "list", "-o", "name"]);
    let id = id.lines().last().expect("an execution").to_owned();
    assert_eq!(home.ok(&["execution", "retry", "-q", &id]), format!("{}\n", CANARY.len()));
    is_nowhere(home, CANARY.as_bytes());
    let log = home.json(&["audit", "list", "--action", "vault.rekey"]);
    assert_eq!(log["items"].as_array().map(Vec::len), Some(4));
}

fn dry_run() {
    let home = Home::new();
    home.ok(&["server", "list"]);
    let keys = key_lines(&home);
    let ended = home.run(&["admin", "rekey", "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.text().contains("/api/v1/admin/rekey") && ended.err.contains("a new key would be added"),
        "{ended:#?}"
    );
    assert_eq!(key_lines(&home), keys);
    assert_eq!(home.json(&["audit", "list"])["items"].as_array().map(Vec::len), Some(0));
}

fn given() {
    let home = Home::new();
    home.file("password", CANARY);
    let (old, new) = (new_key(), new_key());
    let both = format!("{new}\n\n{old}\n");
    let with = |key: &str, args: &[&str]| home.run_with(args, &[("BIRUN_MASTER_KEY", key)], "");
    let add = with(&old, &["server", "add", "db-1", "root@127.0.0.1:1", "--password-file", "password"]);
    assert_eq!(add.code, Some(0), "{add:#?}");
    with(&old, &["admin", "rekey"]).fails(
        &home,
        1,
        "error: the master key comes from BIRUN_MASTER_KEY, which birun does not change\n\n\
         hint: make a key with  head -c 32 /dev/urandom | base64  and add it as the first line of BIRUN_MASTER_KEY, \
         everywhere; leave the old one below it\n\
         hint: restart every birun that works with it, then run  birun admin rekey  again; after that, remove the old \
         line\n",
    );
    let ended = with(&both, &["admin", "rekey"]);
    ended.fails(
        &home,
        0,
        "sealed 2 values anew; nothing is left under the old key: remove it from BIRUN_MASTER_KEY, everywhere\n",
    );
    assert_eq!(with(&new, &["server", "list"]).code, Some(0));
    old_key_is_refused(&home, &old);
    is_forgotten(&home, &old);
    let bad = with(&format!("{new}\nhunter2"), &["server", "list"]);
    assert!(bad.code == Some(1) && bad.err.contains("in line 2") && !bad.err.contains("hunter2"), "{bad:#?}");
    assert!(!home.data().join("birun.key").exists());
}

fn served() {
    let home = Home::new();
    home.file("password", CANARY);
    home.ok(&["server", "add", "db-1", "root@127.0.0.1:1", "--password-file", "password"]);
    let serve = home.serve(&[]);
    let old = key_lines(&home).remove(0);
    let ended = home.run(&["admin", "rekey"]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.err.starts_with("error: a server works with the present key, at http://"), "{ended:#?}");
    assert!(ended.err.contains("add it as the first line of"), "{ended:#?}");
    assert!(key_lines(&home).iter().eq([&old]));
    let new = new_key();
    std::fs::write(home.data().join("birun.key"), format!("{new}\n{old}\n")).expect("a file");
    let early = home.run(&["admin", "rekey"]);
    assert!(early.code == Some(1) && early.err.contains("started before the new key came"), "{early:#?}");
    serve.process.signal("TERM");
    assert_eq!(serve.process.end().code, Some(0));
    let serve = home.serve(&[]);
    home.run(&["admin", "rekey"]).fails(
        &home,
        0,
        "sealed 2 values anew and ended the rotation that had begun; the old key is removed from \
         <home>/.local/share/birun/birun.key\n",
    );
    assert_eq!(key_lines(&home), [new]);
    home.ok(&["server", "edit", "db-1", "--address", "root@127.0.0.1:2"]);
    let env = [("BIRUN_SERVER", serve.address.as_str()), ("BIRUN_TOKEN", serve.token.as_str())];
    let remote = home.run_with(&["admin", "rekey"], &env, "");
    assert!(remote.code == Some(0) && remote.err.starts_with("nothing is sealed under another key"), "{remote:#?}");
    drop(serve);
    home.ok(&["server", "list"]);
    old_key_is_refused(&home, &old);
    is_forgotten(&home, &old);
}

fn worker() {
    let home = Home::new();
    let worker = home.start(&["worker"]);
    crate::birun::until("a worker", || {
        (home.json(&["status"])["workers"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    let keys = key_lines(&home);
    let ended = home.run(&["admin", "rekey"]);
    assert!(ended.code == Some(1) && ended.err.contains("with the present key"), "{ended:#?}");
    assert_eq!(key_lines(&home), keys);
    worker.signal("TERM");
    assert_eq!(worker.end().code, Some(0));
    home.ok(&["admin", "rekey"]);
    assert_ne!(key_lines(&home), keys);
}

#[expect(clippy::print_stdout, reason = "a seed that nobody sees is of no use")]
async fn killed() {
    let seed = RandomState::new().build_hasher().finish();
    let home = Home::new();
    home.ok(&["server", "list"]);
    fill(&home).await;
    let began = Instant::now();
    home.ok(&["admin", "rekey"]);
    let whole = began.elapsed();
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut middle = 0;
    for round in 0..ROUNDS {
        let before = key_lines(&home);
        assert_eq!(before.len(), 1);
        let wait = Duration::from_micros(random.below(u64::try_from(whole.as_micros()).expect("short")));
        let rekey = home.start(&["admin", "rekey"]);
        std::thread::sleep(wait);
        rekey.signal("KILL");
        rekey.end();
        let after_kill = key_lines(&home).len();
        middle += u32::from(after_kill == 2);
        home.ok(&["admin", "rekey"]);
        let after = key_lines(&home);
        assert!(after.len() == 1 && after != before, "round {round}, killed after {wait:?}");
        old_key_is_refused(&home, &before[0]);
        opens(&home, &after[0]).await;
        is_forgotten(&home, &before[0]);
    }
    is_nowhere(&home, CANARY.as_bytes());
    println!("{middle} of {ROUNDS} rotations were killed between the new key and the end; a whole one took {whole:?}");
}

/// A generator whose numbers come again with its seed: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

async fn open(home: &Home) -> SqlStore {
    SqlStore::open(&format!("sqlite://{}", home.data().join("birun.db").display())).await.expect("the store opens")
}

/// Stores many credentials.
async fn fill(home: &Home) {
    let key = MasterKey::parse(&key_lines(home)[0]).expect("a key");
    let engine = Engine::builder(open(home).await).master_key(key).build().await.expect("an engine");
    for number in 0..COUNT {
        let new = NewCredential {
            name: format!("key-{number}").parse().expect("a name"),
            value: OpenCredential::Password(Secret::new(format!("{CANARY}-{number}"))),
            description: String::new(),
        };
        engine.system().create_credential(new).await.expect("created");
    }
}

/// Asserts that this key alone opens every credential, and that each holds what it held.
async fn opens(home: &Home, key: &str) {
    let store = open(home).await;
    let vault = Vault::new(MasterKey::parse(key).expect("a key"));
    let key = MasterKey::parse(key).expect("a key");
    let engine = Engine::builder(store).master_key(key).build().await.expect("the key fits");
    let mut after = None;
    let mut count = 0;
    loop {
        let page = PageRequest::new(200, after).expect("a page");
        let page = engine.system().credentials(page).await.expect("listed");
        page.items.iter().for_each(|credential| holds(&vault, credential));
        count += page.items.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(count, COUNT);
}

fn holds(vault: &Vault, credential: &Credential) {
    let place = Place::credential(credential.project_id, credential.id, credential.version);
    let plain = vault.open(&place, &credential.sealed).expect("it is under the new key");
    let number = credential.name.as_str().trim_start_matches("key-").to_owned();
    let plain = String::from_utf8(plain.to_vec()).expect("text");
    assert!(plain.contains(&format!("\"{CANARY}-{number}\"")), "another value");
}
