//! The conformance suite of the core, on each database.

use std::future::Future;
use std::sync::Arc;

use birun_core::Store;
use birun_core::testing::harness::{Case, Need, Suite};
use birun_core::testing::store::cases;

use crate::backend::{Fixture, need_postgres, postgres, sqlite_file, sqlite_memory};

pub(crate) fn add_to(suite: &mut Suite) {
    add(suite, "sqlite file", &[], sqlite_file);
    add(suite, "sqlite memory", &[], sqlite_memory);
    add(suite, "postgres", &[need_postgres()], postgres);
}

#[expect(clippy::print_stdout, reason = "the number of cases is compared between databases")]
fn add<F, Fut>(suite: &mut Suite, database: &str, needs: &[Need], open: F)
where
    F: Fn() -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Fixture> + Send,
{
    let cases = cases();
    println!("conformance: {database}: {} cases", cases.len());
    for Case { name, run } in cases {
        suite.test(format!("{database}: {name}"), needs, move || async move {
            let fixture = open().await;
            let store: Arc<dyn Store> = Arc::<birun_store::SqlStore>::clone(&fixture.store);
            run(store).await;
            fixture.remove().await;
        });
    }
}
